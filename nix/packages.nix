# The packages of a Linux system, by name.
{ pkgs, self }:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  # The service where nothing is said but which runtimes it has.
  serviceWith =
    runtimes_set:
    (self.inputs.nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          nixpkgs.hostPlatform = system;
          boot.isContainer = true;
          system.stateVersion = "26.05";
          services.codeSandbox = {
            enable = true;
            inherit runtimes_set;
          };
        }
      ];
    }).config.services.codeSandbox;
in
rec {
  codesandbox = pkgs.callPackage ./package.nix { };
  default = codesandbox;

  codesandbox-remote = pkgs.callPackage ./remote { };

  docs = pkgs.callPackage ./docs.nix { };

  # Every runtime of the standard set: its programs, its closure, and the closure's size.
  runtimes = (serviceWith "standard").manifest;

  # With the smallest set, because an image is carried around: the newest Python, Node.js, Bash and C.
  image = pkgs.callPackage ./image.nix { service = serviceWith "minimal"; };
}
