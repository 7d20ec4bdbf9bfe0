# codesandbox-launcher.service: builds sandboxes, and gives its two capabilities up before it serves.
_:
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkIf;
  cfg = config.services.codeSandbox;
in
{
  config = mkIf cfg.enable {
    systemd.services.codesandbox-launcher = {
      description = "codeSandbox launcher";
      requires = [ "codesandbox-launcher.socket" ];
      after = [ "codesandbox-launcher.socket" ];
      enableDefaultPath = false;

      # Sandboxes die with their launcher. New runtimes and profiles are read by the running one when the
      # daemon says so, which reloads first; what it divides at start, ids and the number of sandboxes,
      # needs another start, as does another package of the launcher. A change of the daemon does neither.
      restartTriggers = [
        (builtins.toJSON {
          inherit (cfg.settings) launcher;
          ids = cfg.subordinate_ids;
        })
      ];
      stopIfChanged = false;

      serviceConfig = {
        # Not "notify": the socket queues what comes before the launcher reads.
        Type = "exec";
        ExecStart = "${cfg.launcher.package}/bin/codesandbox-launcher --config /etc/codesandbox/config.json";
        Restart = "on-failure";
        # A configuration that can't be used is no better at the next start.
        RestartPreventExitStatus = 78;
        Slice = "codesandbox.slice";
        User = "codesandbox-launcher";
        Group = "codesandbox-launcher";
        UMask = "0077";
        # Where the launcher puts up the roots of sandboxes.
        RuntimeDirectory = "codesandbox-launcher";
        RuntimeDirectoryMode = "0700";
        # Each program that a session keeps has files for what it has printed, and there are thousands.
        LimitNOFILE = 524288;

        # For one act at start: mapping the subordinate range into the launcher's user namespace.
        AmbientCapabilities = "CAP_SETUID CAP_SETGID";
        CapabilityBoundingSet = "CAP_SETUID CAP_SETGID";
        NoNewPrivileges = true;
        KeyringMode = "private";

        # One group per sandbox below this unit. No process may live in an inner group with controllers,
        # hence a leaf of its own for the launcher.
        Delegate = true;
        DelegateSubgroup = "supervisor";
        # A sandbox that dies of its memory limit is an ordinary outcome and must not stop the launcher.
        OOMPolicy = "continue";
        # Every sandbox has its own pids.max, and the slice bounds them together.
        TasksMax = "infinity";
        # The launcher gets the signal; sandboxes that are left afterwards are killed.
        KillMode = "mixed";
        TimeoutStopSec = 30;

        # File systems. The sandboxes' roots are made of what is visible here.
        DevicePolicy = "closed";
        ProtectHome = true;
        ProtectSystem = "strict";

        # What cannot be used, and why:
        # ProtectProc=, ProcSubset=, ProtectKernelTunables=, ProtectKernelLogs=: each covers a part of
        #   /proc, and the kernel then refuses to mount a new proc in a user namespace (EPERM).
        # ProtectControlGroups=: the sandboxes' groups are made here.
        # SystemCallFilter=, SystemCallArchitectures=, RestrictAddressFamilies=, RestrictNamespaces=,
        #   RestrictRealtime=, RestrictSUIDSGID=, LockPersonality=, MemoryDenyWriteExecute=,
        #   ProtectHostname=, ProtectClock=, ProtectKernelModules=: all are system call filters. They are
        #   inherited by the sandboxes, where the stricter answer wins: a refusal could no longer name the
        #   call, programs that compile at run time would fail, and sandboxes could not name their host.
        # PrivateUsers=: the subordinate range is not mapped in it.
        # PrivateNetwork=: uplinks connect from the host's network. They speak AF_INET, AF_INET6 and, for the
        #   rules of sandboxes, AF_NETLINK; each holds itself to that.
        # PrivateDevices=: its /dev is mounted noexec and cannot be taken apart in a user namespace; the
        #   device policy above refuses the same devices.
        # PrivateTmp=: nothing is written to /tmp, which is read-only here.
      };
    };
  };
}
