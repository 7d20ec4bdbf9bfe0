# codesandbox-mcp.service: the service as tools of models, by the Model Context Protocol. It is a client of the API like
# any other, and may do nothing but that.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    escapeShellArgs
    mkIf
    mkOption
    optionals
    types
    ;
  cfg = config.services.codeSandbox;
  own = cfg.mcp;
  arguments = [
    "${cfg.package}/bin/codesandbox"
    "mcp"
    "--socket"
    cfg.socket.path
    # Used where no socket is handed over, which systemd always does; it is what lets the others be given.
    "--listen"
    own.socket.path
  ]
  ++ optionals (own.profile != null) [
    "--profile"
    own.profile
  ]
  ++ lib.concatMap (origin: [
    "--allow-origin"
    origin
  ]) own.allow_origins
  ++ lib.concatMap (host: [
    "--allow-host"
    host
  ]) own.allow_hosts;
in
{
  options.services.codeSandbox.mcp = {
    enable = lib.mkEnableOption ''
      a socket on which models use the service as tools, by the Model Context Protocol over HTTP. A model's client that
      starts `codesandbox mcp` by itself does not need it'';
    socket = {
      path = mkOption {
        type = kinds.socketPath;
        default = "/run/codesandbox/mcp.sock";
        example = "/run/codesandbox/mcp.sock";
        description = "Where it listens.";
      };
      group = mkOption {
        type = kinds.userName;
        default = cfg.socket.group;
        defaultText = lib.literalExpression "config.services.codeSandbox.socket.group";
        example = "codesandbox-models";
        description = "The group whose members may connect to it; it is made where it isn't there.";
      };
      mode = mkOption {
        type = kinds.mode;
        default = "0660";
        example = "0660";
        description = "Mode of its socket.";
      };
    };
    profile = mkOption {
      type = types.nullOr (types.strMatching "[A-Za-z0-9._-]+");
      default = null;
      example = "agent";
      description = "The profile that runs and sessions of models have. null: the API's own, `default` and `session`.";
    };
    allow_origins = mkOption {
      type = types.listOf (types.strMatching "https?://[^[:space:]/%]+");
      default = [ ];
      example = [ "https://app.example.org:443" ];
      description = "Origins whose pages a browser may let use it, through a reverse proxy. None where empty.";
    };
    allow_hosts = mkOption {
      type = types.listOf (types.strMatching "[^[:space:]/%]+");
      default = [ ];
      example = [ "mcp.example.org" ];
      description = "Names of hosts under which it answers besides `localhost`: that of a reverse proxy.";
    };
  };

  config = mkIf (cfg.enable && own.enable) {
    # A user of its own, so that its jobs are told from others', and may be a client of the configuration.
    users.users.codesandbox-mcp = {
      isSystemUser = true;
      group = "codesandbox-mcp";
      description = "codeSandbox for models";
    };
    users.groups = lib.genAttrs [ "codesandbox-mcp" own.socket.group ] (_: { });

    systemd.sockets.codesandbox-mcp = {
      description = "codeSandbox for models";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = own.socket.path;
        SocketMode = own.socket.mode;
        SocketGroup = own.socket.group;
        Slice = "codesandbox.slice";
        DirectoryMode = "0755";
        RemoveOnStop = true;
      };
    };

    systemd.services.codesandbox-mcp = {
      description = "codeSandbox for models";
      requires = [ "codesandbox-mcp.socket" ];
      # It asks the daemon anew for each call, so that may be restarted meanwhile.
      wants = [ "codesandboxd.socket" ];
      after = [
        "codesandbox-mcp.socket"
        "codesandboxd.socket"
        # Before the daemon when both are stopped: sessions of models are ended by then.
        "codesandboxd.service"
      ];
      enableDefaultPath = false;

      serviceConfig = import ./confined.nix // {
        ExecStart = escapeShellArgs arguments;
        Restart = "on-failure";
        TimeoutStopSec = 20;
        Slice = "codesandbox.slice";
        User = "codesandbox-mcp";
        Group = "codesandbox-mcp";
        # Whoever is in this group may use the API.
        SupplementaryGroups = [ cfg.socket.group ];
        UMask = "0077";
        TasksMax = 64;
        # Output of the latest runs and what is on its way to clients; a client that asks for more is no reason to take it.
        MemoryMax = "1G";
      };
    };
  };
}
