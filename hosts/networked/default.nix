# Sandboxes with a network: an allow-list, name servers of one's own, and the host's table as second lock.
{
  imports = [
    ./configuration.nix
    ../../nix/machines/generic.nix
  ];
  networking.hostName = "networked";
  nixpkgs.hostPlatform = "x86_64-linux";
}
