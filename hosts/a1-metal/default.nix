# An a1.metal instance of EC2: aarch64, sixteen processors, 32 GiB, and no virtual machine below, so
# that KVM is there. Build its image on aarch64:
#
#   nix build .#nixosConfigurations.a1-metal.config.system.build.images.amazon
{ modulesPath, sandbox, ... }:
{
  imports = [
    sandbox.nixosModules.default
    "${modulesPath}/virtualisation/amazon-image.nix"
  ];
  networking.hostName = "a1-metal";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "aarch64-linux";
  system.stateVersion = "26.05";

  services.codeSandbox = {
    enable = true;
    concurrency = 15;
    slice = {
      MemoryMax = "28G";
      AllowedCPUs = "1-15";
    };
  };
}
