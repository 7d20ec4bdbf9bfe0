# The parts of the module, in reading order. Each is a function of what they share: the data of
# profiles/, types, and the older nixpkgs.
{ pins }:
{ lib, ... }:
let
  shared = {
    inherit pins;
    data = import ./data.nix { inherit lib; };
    kinds = import ./kinds.nix { inherit lib; };
  };
  part = file: lib.setDefaultModuleLocation file (import file shared);
in
{
  imports = map part [
    ./service.nix
    ./pool.nix
    ./cache.nix
    ./sessions.nix
    ./profiles.nix
    ./secrets.nix
    ./clients.nix
    ./runtimes.nix
    ./manifest.nix
    ./config-file.nix
    ./users.nix
    ./sockets.nix
    ./tcp.nix
    ./slice.nix
    ./daemon.nix
    ./mcp.nix
    ./dependencies.nix
    ./judge0.nix
    ./piston.nix
    ./launcher.nix
    ./network.nix
    ./hardening.nix
    ./assertions.nix
    ./warnings.nix
  ];
}
