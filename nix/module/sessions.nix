# Sandboxes that outlive a request: how many, how long, and where they are kept.
{ data, kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    any
    hasPrefix
    mapAttrs
    mkIf
    mkMerge
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;
  inherit (cfg.sessions) directory;

  # The daemon's unit hides these from it, or has others in their place.
  hidden = [
    "/dev"
    "/home"
    "/proc"
    "/root"
    "/run/user"
    "/sys"
    "/tmp"
    "/var/tmp"
  ];
  isBelow = parent: directory == parent || hasPrefix "${parent}/" directory;

  refuse = wrong: message: {
    assertion = !wrong;
    message = "services.codeSandbox.${message}";
  };
  # A default that a request could not ask for.
  aboveMaximum =
    key:
    let
      most = "maximum_${key}";
    in
    refuse (cfg.sessions.${key} > cfg.sessions.${most})
      "sessions.${key}: ${toString cfg.sessions.${key}} is more than sessions.${most}, ${toString cfg.sessions.${most}}; lower the one or raise the other";
  # A number with which there could be no session, or none that is of use.
  atLeast =
    key: least:
    refuse (cfg.sessions.${key} < least)
      "sessions.${key}: ${toString cfg.sessions.${key}} is too few; raise it to ${toString least} at least";
in
{
  options.services.codeSandbox.sessions =
    mapAttrs (
      key: value:
      kinds.optionOf value {
        example = value * 2;
        description = "Key `sessions.${key}`: ${data.serviceComments."sessions.${key}"}.";
      }
    ) data.service.sessions
    // {
      directory = mkOption {
        type = types.nullOr kinds.directory;
        default = null;
        example = "/srv/codesandbox-sessions";
        description = ''
          Key `sessions.directory`: where records and saved workspaces are. null: `/var/lib/codesandbox`,
          which systemd makes for the daemon. One of your own is made where it is missing.
        '';
      };
    };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions = [
        (aboveMaximum "idle_timeout_ms")
        (aboveMaximum "lifetime_ms")
        (atLeast "execs_per_session" 1)
        (atLeast "log_bytes" 4096)
        (atLeast "idle_timeout_ms" 1)
        (atLeast "lifetime_ms" 1)
        (atLeast "save_after_ms" 1)
        (atLeast "saved_bytes" 65536)
        (atLeast "upload_bytes" 1)
        (refuse (cfg.sessions.sessions != 0 && cfg.sessions.sessions_per_client > cfg.sessions.sessions)
          "sessions.sessions_per_client: ${toString cfg.sessions.sessions_per_client} is more than sessions.sessions, ${toString cfg.sessions.sessions}; lower it to that at most"
        )
        (refuse (directory != null && any isBelow hidden)
          "sessions.directory: the daemon does not see what the host has in ${toString directory}; choose one such as \"/srv/codesandbox-sessions\""
        )
        # Each would find the other's files among its own.
        (refuse (directory != null && directory == cfg.cache.directory)
          "sessions.directory: ${toString directory} is cache.directory; choose another, as caches are emptied"
        )
      ];
    }
    (mkIf (directory != null) {
      # Everything but this is read-only for the daemon, and a path that is missing would keep it from starting.
      systemd.services.codesandboxd.serviceConfig.ReadWritePaths = [ directory ];
      systemd.tmpfiles.settings."10-codesandbox".${directory}.d = {
        mode = "0700";
        user = "codesandbox";
        group = "codesandbox";
      };
    })
  ]);
}
