{
  description = "Runs code nobody trusts, in many versions of many languages: a NixOS service and a command";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

    # Sources of language versions that nixpkgs has since removed, and of nothing else.
    nixpkgs-23_11 = {
      url = "github:NixOS/nixpkgs/nixos-23.11";
      flake = false;
    };
    nixpkgs-22_11 = {
      url = "github:NixOS/nixpkgs/release-22.11";
      flake = false;
    };

    # Disk layouts of the example hosts for bare metal.
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };

    # Evaluates the example hive. As plain source: the flake would bring five more inputs.
    colmena = {
      url = "github:nix-community/colmena";
      flake = false;
    };
  };

  outputs =
    { self, nixpkgs, ... }@inputs:
    let
      inherit (nixpkgs) lib;

      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      darwin = [
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      each = systems: outputs: lib.genAttrs systems (system: outputs nixpkgs.legacyPackages.${system});

      # Every directory in DIRECTORY, by name.
      directories =
        directory:
        lib.mapAttrs (name: _: directory + "/${name}") (
          lib.filterAttrs (_: type: type == "directory") (builtins.readDir directory)
        );

      pins = lib.filterAttrs (name: _: lib.hasPrefix "nixpkgs-" name) inputs;
      hosts = directories ./hosts;
      hostArguments = {
        sandbox = self;
        inherit (inputs) disko;
      };
    in
    {
      nixosModules.default = import ./module.nix { inherit pins; };
      darwinModules.default = import ./nix/darwin.nix { sandbox = self; };
      homeModules.default = import ./nix/home.nix { sandbox = self; };

      overlays.default = import ./nix/overlay.nix;

      # The service and its sandboxes are Linux; on Darwin the command hands its work to a Linux host.
      packages =
        each linux (pkgs: import ./nix/packages.nix { inherit pkgs self; })
        // each darwin (pkgs: rec {
          codesandbox-remote = pkgs.callPackage ./nix/remote { };
          codesandbox = codesandbox-remote;
          default = codesandbox-remote;
        });

      apps = lib.mapAttrs (_: packages: {
        default = {
          type = "app";
          program = lib.getExe packages.default;
          meta.description = "Run a program in a sandbox, as in: nix run . -- run FILE";
        };
      }) self.packages;

      nixosConfigurations = lib.mapAttrs (
        _: host:
        lib.nixosSystem {
          modules = [ host ];
          specialArgs = hostArguments;
        }
      ) hosts;

      colmenaHive = import ./nix/hive.nix {
        inherit nixpkgs hosts hostArguments;
        inherit (inputs) colmena;
      };

      checks = each linux (pkgs: import ./nix/checks.nix { inherit pkgs self; });

      devShells = each (linux ++ darwin) (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix {
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) codesandbox;
        };
      });

      formatter = each (linux ++ darwin) (pkgs: pkgs.callPackage ./nix/formatter.nix { });

      templates = lib.mapAttrs (_: path: {
        inherit path;
        inherit (import (path + "/flake.nix")) description;
      }) (directories ./templates);
    };
}
