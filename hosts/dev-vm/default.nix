# A virtual machine to try things in. It keeps nothing that its disk image, ./dev-vm.qcow2, does not:
#
#   nix run .#nixosConfigurations.dev-vm.config.system.build.vm
#
# logs in by itself, and `codesandbox run` works there at once.
{ modulesPath, sandbox, ... }:
{
  imports = [
    sandbox.nixosModules.default
    "${modulesPath}/virtualisation/qemu-vm.nix"
  ];
  networking.hostName = "dev-vm";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  virtualisation = {
    graphics = false;
    memorySize = 4096;
    cores = 2;
  };

  users.users.dev = {
    isNormalUser = true;
    # The machine has no way in but its own console.
    password = "dev";
    extraGroups = [ "wheel" ];
  };
  security.sudo.wheelNeedsPassword = false;
  services.getty.autologinUser = "dev";

  services.codeSandbox = {
    enable = true;
    clients.dev.users = [ "dev" ];
  };
}
