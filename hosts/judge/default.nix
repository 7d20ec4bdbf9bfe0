# A contest judge: many short runs of one user's, each under tight limits, on processors of their own.
{ sandbox, ... }:
{
  imports = [
    sandbox.nixosModules.default
    ../../nix/machines/generic.nix
  ];
  networking.hostName = "judge";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";

  # The web front end; what it runs, it asks for on the socket.
  users.users.judge = {
    isSystemUser = true;
    group = "judge";
  };
  users.groups.judge = { };

  services.codeSandbox = {
    enable = true;

    # Sixteen processors, two of them for everything else. One run per processor, so that the
    # times of two submissions can be compared.
    concurrency = 14;
    slice = {
      AllowedCPUs = "2-15";
      MemoryMax = "80%";
    };

    queue = {
      length = 2000;
      length_per_client = 2000;
    };
    clients.judge = {
      users = [ "judge" ];
      profiles = [ "judge" ];
    };

    # For what was written for Judge0.
    judge0 = {
      enable = true;
      socket.enable = true;
      profile = "judge";
    };

    profiles.judge.run.memory_bytes = 256 * 1024 * 1024;
  };
}
