# The sockets: systemd makes them, with their owners and modes, before any program of ours runs.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib) mkIf mkOption;
  cfg = config.services.codeSandbox;

  socketOptions =
    {
      path,
      group,
      mode,
      what,
    }:
    {
      path = mkOption {
        type = kinds.socketPath;
        default = path;
        example = path;
        description = "Where ${what} listens.";
      };
      group = mkOption {
        type = kinds.userName;
        default = group;
        example = group;
        description = "The group whose members may connect to ${what}; it is made where it isn't there.";
      };
      mode = mkOption {
        type = kinds.mode;
        default = mode;
        example = mode;
        description = "Mode of the socket of ${what}.";
      };
    };

  # Sockets lie in the slice, so that what waits in them is accounted to it. The directory is made by
  # systemd and not by a RuntimeDirectory= of the service, which would go with the service.
  common = {
    Slice = "codesandbox.slice";
    DirectoryMode = "0755";
    RemoveOnStop = true;
  };

  streamOf = socket: {
    ListenStream = socket.path;
    SocketMode = socket.mode;
    SocketGroup = socket.group;
  };

  # One more socket of the daemon, which tells it from the API's by this name.
  another = name: description: socket: {
    inherit description;
    wantedBy = [ "sockets.target" ];
    socketConfig =
      common
      // streamOf socket
      // {
        FileDescriptorName = name;
        Service = "codesandboxd.service";
      };
  };
in
{
  options.services.codeSandbox = {
    socket = socketOptions {
      path = "/run/codesandbox/api.sock";
      group = "codesandbox-clients";
      mode = "0660";
      what = "the API";
    };
    metrics = {
      enable = lib.mkEnableOption ''
        a socket of its own on which nothing but `GET /metrics` and `GET /health` is answered, so that what reads
        metrics need not be able to run programs'';
      socket = socketOptions {
        path = "/run/codesandbox/metrics.sock";
        group = "codesandbox-metrics";
        mode = "0660";
        what = "the metrics";
      };
    };
    judge0.socket = {
      enable = lib.mkEnableOption ''
        a socket of its own with the dialect of Judge0 at its root, where `judge0.enable` is set, for clients that know
        no paths'';
    }
    // socketOptions {
      path = "/run/codesandbox/judge0.sock";
      group = "codesandbox-clients";
      mode = "0660";
      what = "Judge0";
    };
  };

  config = mkIf cfg.enable {
    systemd.sockets = {
      codesandboxd = {
        description = "API of codeSandbox";
        wantedBy = [ "sockets.target" ];
        socketConfig = common // streamOf cfg.socket;
      };
      codesandbox-launcher = {
        description = "Launcher of codeSandbox, for its daemon alone";
        wantedBy = [ "sockets.target" ];
        socketConfig = common // {
          ListenSequentialPacket = "/run/codesandbox/launcher.sock";
          SocketMode = "0660";
          SocketGroup = "codesandbox";
        };
      };
      codesandboxd-metrics = mkIf cfg.metrics.enable (
        another "metrics" "Metrics of codeSandbox" cfg.metrics.socket
      );
      codesandboxd-judge0 = mkIf (cfg.judge0.enable && cfg.judge0.socket.enable) (
        another "judge0" "Judge0 by codeSandbox" cfg.judge0.socket
      );
    };
  };
}
