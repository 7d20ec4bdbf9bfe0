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
  };

  config = mkIf cfg.enable {
    systemd.sockets = {
      codesandboxd = {
        description = "API of codeSandbox";
        wantedBy = [ "sockets.target" ];
        socketConfig = common // {
          ListenStream = cfg.socket.path;
          SocketMode = cfg.socket.mode;
          SocketGroup = cfg.socket.group;
        };
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
      codesandboxd-metrics = mkIf cfg.metrics.enable {
        description = "Metrics of codeSandbox";
        wantedBy = [ "sockets.target" ];
        socketConfig = common // {
          ListenStream = cfg.metrics.socket.path;
          SocketMode = cfg.metrics.socket.mode;
          SocketGroup = cfg.metrics.socket.group;
          # By this name the daemon tells it from the API's.
          FileDescriptorName = "metrics";
          Service = "codesandboxd.service";
        };
      };
    };
  };
}
