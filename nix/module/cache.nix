# Results of compile stages: where they are kept, and how many.
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
  inherit (cfg.cache) directory;

  # What a sandbox is given at its start must hold it.
  mostEntryBytes = 201326592;
  most = lib.min cfg.cache.bytes mostEntryBytes;
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
in
{
  options.services.codeSandbox.cache =
    mapAttrs (
      key: value:
      kinds.optionOf value {
        description = "Key `cache.${key}`: ${data.serviceComments."cache.${key}"}.";
      }
    ) data.service.cache
    // {
      directory = mkOption {
        type = types.nullOr kinds.directory;
        default = null;
        example = "/srv/codesandbox-cache";
        description = ''
          Key `cache.directory`: where results of compilers are kept. null: `/var/cache/codesandbox/compile`,
          which systemd makes for the daemon. One of your own is made where it is missing.
        '';
      };
    };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions = [
        (refuse (cfg.cache.bytes != 0 && cfg.cache.entry_bytes > cfg.cache.bytes)
          "cache.entry_bytes: ${toString cfg.cache.entry_bytes} is more than cache.bytes, ${toString cfg.cache.bytes}; lower the one, raise the other, or set cache.bytes = 0 for no cache"
        )
        (refuse (cfg.cache.bytes != 0 && cfg.cache.entry_bytes > mostEntryBytes)
          "cache.entry_bytes: ${toString cfg.cache.entry_bytes} is more than a sandbox is given at its start; lower it to ${toString most} at most"
        )
        (refuse (
          cfg.cache.bytes != 0 && cfg.cache.entry_bytes == 0
        ) "cache.entry_bytes: with 0 nothing could be kept; raise it, or set cache.bytes = 0 for no cache")
        (refuse (directory != null && any isBelow hidden)
          "cache.directory: the daemon does not see what the host has in ${toString directory}; choose one such as \"/srv/codesandbox-cache\""
        )
      ];
    }
    (mkIf (directory == null) {
      systemd.services.codesandboxd.serviceConfig = {
        CacheDirectory = "codesandbox/compile";
        CacheDirectoryMode = "0700";
      };
    })
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
