{ sandbox, ... }:
{
  imports = [ sandbox.nixosModules.default ];

  # The user that the agents run as. What they want to run, they ask for on the socket.
  users.users.agent.isNormalUser = true;

  services.codeSandbox = {
    enable = true;
    slice.MemoryMax = "75%";
    clients.agent = {
      users = [ "agent" ];
      profiles = [
        "default"
        "agent"
      ];
    };
  };

  networking.hostName = "agents";
  networking.nftables.enable = true;
  services.openssh.enable = true;
  system.stateVersion = "26.05";
}
