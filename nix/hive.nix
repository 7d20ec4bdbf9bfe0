# A hive for Colmena: those example hosts that a fleet has, with where they are.
#
#   colmena apply --on judge
{
  nixpkgs,
  colmena,
  hosts,
  hostArguments,
}:
let
  node = name: deployment: {
    imports = [ hosts.${name} ];
    inherit deployment;
  };
in
import "${colmena}/src/nix/hive/eval.nix" {
  hermetic = true;
  rawHive = {
    meta = {
      description = "Hosts that run sandboxes";
      nixpkgs = nixpkgs.legacyPackages.x86_64-linux;
      nodeNixpkgs.a1-metal = nixpkgs.legacyPackages.aarch64-linux;
      specialArgs = hostArguments;
    };

    judge = node "judge" {
      targetHost = "judge.example.org";
      tags = [ "judge" ];
    };
    agents = node "agents" {
      targetHost = "agents.example.org";
      tags = [ "agents" ];
    };
    a1-metal = node "a1-metal" {
      targetHost = "a1.example.org";
      # Few machines cross-compile well: this one builds its own system.
      buildOnTarget = true;
      tags = [ "agents" ];
    };
  };
}
