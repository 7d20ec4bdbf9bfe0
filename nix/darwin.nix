# nix-darwin: the command for every user, and a Linux virtual machine that runs the programs. It is
# nix-darwin's Linux builder, which then has the service beside its builds.
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
    mkMerge
    mkOption
    types
    ;
  cfg = config.programs.codeSandbox;
  alias = "codesandbox-builder";
  account = "sandbox";
in
{
  options.programs.codeSandbox = {
    enable = mkEnableOption "the command `codesandbox`";

    package = mkOption {
      type = types.package;
      default = sandbox.packages.${pkgs.stdenv.hostPlatform.system}.codesandbox-remote;
      defaultText = lib.literalMD "the command that asks a Linux host";
      description = "Package that has the command.";
    };

    host = mkOption {
      type = types.str;
      default = alias;
      example = "judge.example.org";
      description = ''
        Linux host that runs the programs, by a name that ssh knows; `codesandbox` must be in the
        `PATH` there. The default is the virtual machine of `builder`.
      '';
    };

    builder = {
      enable = mkEnableOption "" // {
        description = ''
          Whether to have the service in nix-darwin's Linux builder. The machine is built by itself, as it
          was before: switch to `nix.linux-builder.enable` alone first.
        '';
      };

      authorizedKeys = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5… me@mac" ];
        description = "Public SSH keys of the users of this Mac who may run programs.";
      };

      services = mkOption {
        type = types.deferredModule;
        default = { };
        example = lib.literalExpression "{ services.codeSandbox.concurrency = 2; }";
        description = "Further NixOS configuration of the virtual machine.";
      };
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      environment.systemPackages = [ cfg.package ];
      environment.variables.CODESANDBOX_HOST = cfg.host;
      assertions = [
        {
          assertion = cfg.host != alias || cfg.builder.enable;
          message = ''
            programs.codeSandbox: macOS has no sandboxes of its own. Set `host` to a Linux host, or
            `builder.enable = true` for a virtual machine.
          '';
        }
        {
          assertion = !cfg.builder.enable || cfg.builder.authorizedKeys != [ ];
          message = "programs.codeSandbox.builder.authorizedKeys: name at least one key, or nobody can run programs.";
        }
      ];
    }

    (mkIf cfg.builder.enable {
      nix.linux-builder = {
        enable = true;
        config =
          { config, ... }:
          {
            imports = [
              sandbox.nixosModules.default
              cfg.builder.services
            ];
            services.codeSandbox.enable = true;
            users.users.${account} = {
              isNormalUser = true;
              extraGroups = [ config.services.codeSandbox.socket.group ];
              openssh.authorizedKeys.keys = cfg.builder.authorizedKeys;
            };
          };
      };

      # The builder's own key is root's, hence an account and keys for the users. The port and the
      # machine's key are those of every Linux builder; it listens on this machine alone.
      environment.etc."ssh/ssh_config.d/110-codesandbox.conf".text = ''
        Host ${alias}
          User ${account}
          Hostname localhost
          HostKeyAlias ${alias}
          Port 31022
      '';
      programs.ssh.knownHosts.${alias}.publicKeyFile =
        pkgs.path + "/nixos/modules/profiles/keys/ssh_host_ed25519_key.pub";
    })
  ]);
}
