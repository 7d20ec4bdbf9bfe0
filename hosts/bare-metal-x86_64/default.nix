# A server of one's own, x86_64, from nothing. Its rescue system, or any Linux that root reaches by
# SSH, is replaced and its disk is emptied:
#
#   nix run github:nix-community/nixos-anywhere -- --flake .#bare-metal-x86_64 --target-host root@ADDRESS
{ sandbox, disko, ... }:
{
  imports = [
    sandbox.nixosModules.default
    (import ../../nix/machines/metal.nix { inherit disko; })
  ];
  networking.hostName = "bare-metal-x86_64";
  networking.nftables.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";

  services.codeSandbox.enable = true;
}
