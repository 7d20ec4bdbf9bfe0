# A server without anything on it yet, for nixos-anywhere: one disk, UEFI, SSH for root by key.
{ disko }:
{ lib, ... }:
{
  imports = [ disko.nixosModules.disko ];

  disko.devices.disk.main = {
    type = "disk";
    # A name that stays with the disk, from /dev/disk/by-id, is better where there are several.
    device = lib.mkDefault "/dev/nvme0n1";
    content = {
      type = "gpt";
      partitions = {
        ESP = {
          size = "1G";
          type = "EF00";
          content = {
            type = "filesystem";
            format = "vfat";
            mountpoint = "/boot";
            mountOptions = [ "umask=0077" ];
          };
        };
        root = {
          size = "100%";
          content = {
            type = "filesystem";
            format = "ext4";
            mountpoint = "/";
          };
        };
      };
    };
  };

  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "usbhid"
    "xhci_pci"
  ];
  hardware.enableRedistributableFirmware = true;

  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
  };
  # Put your own key here before you install, or nobody can log in afterwards:
  # users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 …" ];

  system.stateVersion = "26.05";
}
