# home-manager: the command for one user, on Linux and on macOS.
{ sandbox }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkIf
    mkOption
    types
    ;
  cfg = config.programs.codeSandbox;
  inherit (pkgs.stdenv) hostPlatform;
  remote = cfg.host != null;
in
{
  options.programs.codeSandbox = {
    enable = mkEnableOption "the command `codesandbox`";

    host = mkOption {
      type = types.nullOr types.str;
      default = if hostPlatform.isLinux then null else "codesandbox-builder";
      defaultText = lib.literalMD "on Linux `null`, elsewhere `\"codesandbox-builder\"`";
      example = "judge.example.org";
      description = ''
        Linux host that runs the programs, by a name that ssh knows; `codesandbox` must be in the
        `PATH` there. `null` runs them on this machine.
      '';
    };

    socket = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/codesandbox/api.sock";
      description = ''
        Socket of this machine's service. `null` takes the usual one where it answers, and else lets
        the command build the sandbox by itself.
      '';
    };

    package = mkOption {
      type = types.package;
      default =
        let
          packages = sandbox.packages.${hostPlatform.system};
        in
        if remote then packages.codesandbox-remote else packages.codesandbox;
      defaultText = lib.literalMD "the command that fits `host`";
      description = "Package that has the command.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = remote || hostPlatform.isLinux;
        message = "programs.codeSandbox.host: sandboxes need Linux; name a Linux host that ssh reaches.";
      }
      {
        assertion = !(remote && cfg.socket != null);
        message = "programs.codeSandbox.socket: with a host, the socket is that host's business; leave it null.";
      }
    ];
    home.packages = [ cfg.package ];
    home.sessionVariables =
      lib.optionalAttrs remote { CODESANDBOX_HOST = cfg.host; }
      // lib.optionalAttrs (cfg.socket != null) { CODESANDBOX_SOCKET = toString cfg.socket; };
  };
}
