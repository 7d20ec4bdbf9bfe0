# The dialect of Judge0: limits, who may ask, and the network of callbacks.
{ data, kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    filterAttrs
    isFloat
    isList
    mapAttrs
    mkEnableOption
    mkIf
    mkOption
    optional
    optionalAttrs
    removeAttrs
    types
    ;
  cfg = config.services.codeSandbox;
  own = cfg.judge0;
  inherit (data.service) judge0;
  # What the data file has, less what has an option of its own here.
  simple = removeAttrs judge0 [ "enable" ];

  typeOf =
    value:
    if isFloat value then
      types.numbers.nonnegative
    else if isList value then
      types.listOf types.str
    else
      kinds.ofValue value;
  tokens =
    what:
    mkOption {
      type = types.nullOr kinds.secretFile;
      default = null;
      example = "/run/keys/judge0";
      description = ''
        File on this host with tokens, one a line, as they are or as `sha256:` and their SHA-256 in hexadecimal: ${what}
        systemd reads it when the daemon starts.
      '';
    };
  # Where systemd puts what it loads.
  credential = name: "/run/credentials/codesandboxd.service/${name}";
  credentials = filterAttrs (_: file: file != null) {
    judge0-authn = own.authn_token_file;
    judge0-authz = own.authz_token_file;
  };
in
{
  options.services.codeSandbox.judge0 =
    mapAttrs (
      key: value:
      kinds.optionOf value {
        type = typeOf value;
        description = "Key `judge0.${key}`: ${
          data.serviceComments."judge0.${key}" or "see docs/JUDGE0.md"
        }.";
      }
    ) simple
    // {
      enable = mkEnableOption "the dialect of Judge0 CE at `/judge0`; what clients submit is then kept. See docs/JUDGE0.md";
      authn_token_file = tokens "every request must have one of them. null: none needs any.";
      authz_token_file = tokens "who has one may list and delete submissions. null: nobody may.";
      settings = mkOption {
        internal = true;
        readOnly = true;
        type = types.attrsOf types.anything;
        default = optionalAttrs own.enable (
          lib.getAttrs (lib.attrNames simple) own
          // {
            inherit (own) enable;
          }
          // optionalAttrs (own.authn_token_file != null) { authn_token_file = credential "judge0-authn"; }
          // optionalAttrs (own.authz_token_file != null) { authz_token_file = credential "judge0-authz"; }
        );
        description = "What the configuration file says of Judge0.";
      };
    };

  config = mkIf (cfg.enable && own.enable) {
    assertions = [
      {
        assertion = cfg.profiles ? ${own.profile};
        message = "services.codeSandbox.judge0.profile: there is no profile ${own.profile}; write one to services.codeSandbox.profiles";
      }
    ];
    systemd.services.codesandboxd.serviceConfig = {
      LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") credentials;
    }
    // optionalAttrs own.enable_callbacks {
      # A callback goes to the internet. The daemon itself holds it to public addresses; the metadata services of
      # clouds are out of its reach even where it fails to.
      PrivateNetwork = lib.mkForce false;
      RestrictAddressFamilies = lib.mkForce "AF_UNIX AF_INET AF_INET6";
      IPAddressDeny = lib.mkForce (
        lib.concatStringsSep " " ([ "multicast" ] ++ optional (!own.callbacks_allow_private) "link-local")
      );
    };
  };
}
