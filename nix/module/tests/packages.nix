# Packages by name alone, never built: so that what a test or a golden file shows is the module's doing,
# and not that of the nixpkgs at hand.
{ lib }:
{ pkgs, ... }:
let
  inherit (lib) mkDefault;
  data = import ../data.nix { inherit lib; };
  cargo = lib.importTOML ../../../Cargo.toml;

  named =
    name:
    derivation {
      inherit name;
      inherit (pkgs.stdenv.hostPlatform) system;
      builder = "/bin/sh";
    }
    // {
      version = "0";
    };
  attributesOf =
    language:
    (language.nix_packages or [ ]) ++ map (entry: entry.nixpkgs) (lib.attrValues language.entries);
  attributes = [
    "bash"
    "coreutils"
  ]
  ++ lib.concatMap attributesOf (lib.attrValues data.languages);
in
{
  services.codeSandbox = {
    package = mkDefault (named "codesandbox-${cargo.package.version}");
    runtimes_from = mkDefault (lib.genAttrs attributes named);
  };
}
