# The two lines of the README, on a machine.
{
  imports = [
    ./configuration.nix
    ../../nix/machines/generic.nix
  ];
  networking.hostName = "minimal";
  nixpkgs.hostPlatform = "x86_64-linux";
}
