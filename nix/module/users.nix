# Users, groups, and the range of ids that sandboxes are given.
{ data, ... }:
{ config, lib, ... }:
let
  inherit (lib) mkIf;
  inherit (data.service) launcher;
  cfg = config.services.codeSandbox;
  ids = cfg.subordinate_ids;
in
{
  options.services.codeSandbox.subordinate_ids = {
    first = lib.mkOption {
      type = lib.types.ints.between 65536 4294901760;
      default = launcher.id_base;
      example = 2000000;
      description = "First of the host's user and group ids that sandboxes use; nothing else on the host may.";
    };
    count = lib.mkOption {
      type = lib.types.ints.positive;
      default = launcher.id_count;
      example = 131072;
      description = "How many; each sandbox takes three, so that no two that live at one time share any.";
    };
  };

  config = mkIf cfg.enable {
    users.users = {
      codesandbox = {
        isSystemUser = true;
        group = "codesandbox";
        description = "codeSandbox daemon";
      };
      codesandbox-launcher = {
        isSystemUser = true;
        group = "codesandbox-launcher";
        description = "codeSandbox launcher";
        subUidRanges = [
          {
            startUid = ids.first;
            inherit (ids) count;
          }
        ];
        subGidRanges = [
          {
            startGid = ids.first;
            inherit (ids) count;
          }
        ];
      };
    };
    # Who is in the socket's group may run programs; there are no passwords.
    users.groups = lib.genAttrs (
      [
        "codesandbox"
        "codesandbox-launcher"
        cfg.socket.group
      ]
      ++ lib.optional cfg.metrics.enable cfg.metrics.socket.group
      ++ lib.optional (cfg.judge0.enable && cfg.judge0.socket.enable) cfg.judge0.socket.group
    ) (_: { });
  };
}
