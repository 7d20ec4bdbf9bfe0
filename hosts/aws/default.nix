# An instance of EC2, x86_64, in a virtual machine itself: without KVM, so that sandboxes share the
# kernel of the instance. The image to upload:
#
#   nix build .#nixosConfigurations.aws.config.system.build.images.amazon
{ modulesPath, sandbox, ... }:
{
  imports = [
    sandbox.nixosModules.default
    "${modulesPath}/virtualisation/amazon-image.nix"
  ];
  networking.hostName = "aws";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  services.codeSandbox = {
    enable = true;
    # Amazon's own agent and SSH keep the rest.
    slice.MemoryMax = "85%";
  };
}
