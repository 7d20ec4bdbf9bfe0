# codesandboxd.service: reads what clients send, and may do nothing else.
_:
{ config, lib, ... }:
let
  inherit (lib) mkIf optional;
  cfg = config.services.codeSandbox;
  sockets = [
    "codesandboxd.socket"
  ]
  ++ optional cfg.metrics.enable "codesandboxd-metrics.socket"
  ++ optional cfg.tcp.enable "codesandboxd-tcp.socket"
  ++ optional (cfg.judge0.enable && cfg.judge0.socket.enable) "codesandboxd-judge0.socket";
in
{
  config = mkIf cfg.enable {
    systemd.services.codesandboxd = {
      description = "codeSandbox daemon";
      requires = sockets;
      # The launcher may be restarted under a running daemon, hence no Requires=.
      wants = [ "codesandbox-launcher.socket" ];
      # After the launcher, so that where both are stopped the daemon goes first: what runs can end.
      after = sockets ++ [
        "codesandbox-launcher.socket"
        "codesandbox-launcher.service"
      ];
      # Whoever stops or restarts the launcher, by a command and not by a fault, means this as well: only in
      # one transaction do jobs that run end before their sandboxes do.
      partOf = [ "codesandbox-launcher.service" ];
      # It calls no programs.
      enableDefaultPath = false;

      # A new configuration, of runtimes too, is read by the running daemon; only another package or
      # another unit restarts it. Jobs that run then end within `service.stop_deadline_ms`, and clients
      # that connect meanwhile wait in the socket, which is not closed.
      reloadTriggers = [ cfg.configFile ];
      stopIfChanged = false;

      # judge0.nix has the one exception.
      serviceConfig = import ./confined.nix // {
        Type = "notify-reload";
        ExecStart = "${cfg.package}/bin/codesandboxd --config /etc/codesandbox/config.json";
        WatchdogSec = 30;
        Restart = "on-failure";
        # A configuration that can't be used is no better at the next start.
        RestartPreventExitStatus = 78;
        # Running jobs have the configured time to end, and then a little is left for the answers.
        TimeoutStopSec = 10 + (cfg.service.stop_deadline_ms + 999) / 1000;
        Slice = "codesandbox.slice";
        User = "codesandbox";
        Group = "codesandbox";
        UMask = "0077";
        StateDirectory = "codesandbox";
        StateDirectoryMode = "0700";
        # Each program that a session keeps has files for what it has printed, and there are thousands.
        LimitNOFILE = 524288;
        TasksMax = 256;
        # It holds no memory worth a kill, and all clients lose by one.
        OOMPolicy = "continue";
        OOMScoreAdjust = -100;
      };
    };
  };
}
