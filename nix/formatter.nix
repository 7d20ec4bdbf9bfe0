# `nix fmt`: one command for every language of this repository.
{
  lib,
  deadnix,
  nixfmt,
  rustfmt,
  treefmt,
}:
let
  inherit (lib.importTOML ../Cargo.toml) package;
in
treefmt.withConfig {
  name = "codesandbox-format";
  runtimeInputs = [
    deadnix
    nixfmt
    rustfmt
  ];
  settings = {
    tree-root-file = "flake.nix";
    on-unmatched = "info";
    formatter = {
      deadnix = {
        command = "deadnix";
        options = [ "--edit" ];
        includes = [ "*.nix" ];
        # Two programs that write one file take turns: what is left of it is formatted.
        priority = 1;
      };
      nixfmt = {
        command = "nixfmt";
        includes = [ "*.nix" ];
        priority = 2;
      };
      rustfmt = {
        command = "rustfmt";
        options = [
          "--edition"
          package.edition
        ];
        includes = [ "*.rs" ];
        # What sandboxes are given, some of it wrong on purpose.
        excludes = [ "tests/programs/*" ];
      };
    };
  };
}
