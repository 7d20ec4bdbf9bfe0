{
  description = "A contest judge on NixOS";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    sandbox = {
      # Where you took this template from.
      url = "github:OWNER/REPOSITORY";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { nixpkgs, sandbox, ... }:
    {
      nixosConfigurations.judge = nixpkgs.lib.nixosSystem {
        modules = [
          # nixos-generate-config writes this file on the machine; the one here is a stand-in.
          ./hardware-configuration.nix
          ./configuration.nix
        ];
        specialArgs = { inherit sandbox; };
      };
    };
}
