# Coding agents: fewer programs, long ones, with room to work; and builds, which may not starve them.
{ sandbox, ... }:
{
  imports = [
    sandbox.nixosModules.default
    ../../nix/machines/generic.nix
  ];
  networking.hostName = "agents";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";

  users.users = {
    agent = {
      isNormalUser = true;
      description = "Agents of people, who wait";
    };
    builder = {
      isNormalUser = true;
      description = "Builds, for which nobody waits";
    };
  };

  services.codeSandbox = {
    enable = true;

    slice = {
      MemoryMax = "75%";
      CPUWeight = 50;
    };

    clients = {
      agent = {
        users = [ "agent" ];
        weight = 4;
        profiles = [
          "default"
          "agent"
        ];
      };
      builder = {
        users = [ "builder" ];
        concurrency = 2;
        profiles = [ "build" ];
      };
    };

    metrics.enable = true;

    mcp = {
      enable = true;
      profile = "agent";
    };
  };
}
