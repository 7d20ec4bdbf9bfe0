# What works, and is probably not meant.
_:
{ config, lib, ... }:
let
  inherit (lib)
    concatLists
    elem
    filter
    mapAttrsToList
    mkIf
    optional
    optionals
    ;
  cfg = config.services.codeSandbox;
  here = "services.codeSandbox";

  everybody =
    name: mode:
    optional
      (elem (lib.last (lib.stringToCharacters mode)) [
        "2"
        "3"
        "6"
        "7"
      ])
      "${here}.${name}.mode: ${mode} lets every user of this host connect; \"0660\" lets the members of the group.";

  strangers = concatLists (
    mapAttrsToList (
      name: client:
      map (
        user:
        "${here}.clients.${name}.users: this host declares no user \"${user}\" in users.users; if it comes from a directory service all is well, else correct the name."
      ) (filter (user: !(config.users.users ? ${user})) client.users)
    ) cfg.clients
  );

  docker = config.virtualisation.docker.enable or false;
in
{
  config.warnings = mkIf cfg.enable (
    everybody "socket" cfg.socket.mode
    ++ optionals cfg.metrics.enable (everybody "metrics.socket" cfg.metrics.socket.mode)
    ++ optionals (cfg.judge0.enable && cfg.judge0.socket.enable) (
      everybody "judge0.socket" cfg.judge0.socket.mode
    )
    ++ optionals cfg.mcp.enable (everybody "mcp.socket" cfg.mcp.socket.mode)
    ++ strangers
    ++
      optional (cfg.network.public && !cfg.network.table.enable)
        "${here}.network.public: sandboxes may reach public addresses, and the host's own table of what they may not is off; set networking.nftables.enable = true."
    ++
      optional (docker && config.networking.nftables.enable)
        "${here}: Docker brings rules of iptables beside networking.nftables; codeSandbox's table holds whatever they say, but see that Docker's own ports are what you want, or set virtualisation.docker.enable = false."
  );
}
