{ sandbox, ... }:
{
  imports = [ sandbox.nixosModules.default ];

  # The user whose service takes submissions.
  users.users.judge = {
    isSystemUser = true;
    group = "judge";
  };
  users.groups.judge = { };

  services.codeSandbox = {
    enable = true;
    slice.MemoryMax = "80%";
    queue = {
      length = 2000;
      length_per_client = 2000;
    };
    clients.judge = {
      users = [ "judge" ];
      profiles = [ "judge" ];
    };
  };

  networking.hostName = "judge";
  networking.nftables.enable = true;
  services.openssh.enable = true;
  system.stateVersion = "26.05";
}
