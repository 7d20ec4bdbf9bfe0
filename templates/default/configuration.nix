{ sandbox, ... }:
{
  imports = [ sandbox.nixosModules.default ];
  services.codeSandbox.enable = true;

  # Who may run programs, beside root.
  services.codeSandbox.clients.me.users = [ "me" ];
  users.users.me = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
  };

  networking.hostName = "sandbox";
  networking.nftables.enable = true;
  services.openssh.enable = true;
  system.stateVersion = "26.05";
}
