# Secrets: what sandboxes use towards a host and never see. Their files are no part of the configuration: systemd
# hands them to the launcher alone, as credentials.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    mapAttrsToList
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;

  secret.options = {
    file = mkOption {
      type = kinds.secretFile;
      example = "/run/keys/forge";
      description = ''
        The file on this host that has it, outside of the Nix store, which everybody can read. systemd reads it when
        the launcher starts: another secret takes another start.
      '';
    };
    domains = mkOption {
      type = types.nonEmptyListOf kinds.domain;
      example = [ "api.example.org" ];
      description = "Hosts that get it, by their whole names.";
    };
    ports = mkOption {
      type = types.nonEmptyListOf (types.ints.between 1 65535);
      default = [ 443 ];
      example = [ 8443 ];
      description = "At which ports, by TLS.";
    };
    headers = mkOption {
      type = types.nonEmptyListOf types.str;
      default = [
        "Authorization"
        "X-Api-Key"
      ];
      example = [ "Private-Token" ];
      description = "In which headers of a request.";
    };
  };
in
{
  options.services.codeSandbox.secrets = mkOption {
    type = types.attrsOf (types.submodule secret);
    default = { };
    example = {
      forge = {
        file = "/run/keys/forge";
        domains = [ "api.example.org" ];
      };
    };
    description = ''
      Secrets by name. A profile says which its sandboxes have (`profiles.<name>.network.secrets`): their programs
      have a placeholder, which is replaced on the way to these hosts alone. See docs/NETWORK.md.
    '';
  };

  config = mkIf (cfg.enable && cfg.secrets != { }) {
    systemd.services.codesandbox-launcher.serviceConfig.LoadCredential = mapAttrsToList (
      name: one: "${name}:${one.file}"
    ) cfg.secrets;
  };
}
