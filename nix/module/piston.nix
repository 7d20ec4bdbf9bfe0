# Those who speak to the service as to Piston: under which profile their jobs run, and what they may have.
{ data, kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    filterAttrs
    isInt
    mapAttrs
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;
  own = cfg.piston;
  defaults = data.service.piston;
  limits = filterAttrs (_: isInt) defaults;
  describe = key: "Key `piston.${key}`: ${data.serviceComments."piston.${key}"}.";

  # As `kinds.optionOf`, of a number that Piston's operators may have below zero.
  limit =
    type: default: key:
    mkOption {
      inherit type default;
      description = describe key;
    };
in
{
  options.services.codeSandbox.piston =
    mapAttrs (key: value: kinds.optionOf value { description = describe key; }) defaults
    // mapAttrs (key: value: limit types.int value key) limits
    // {
      packages = mkOption {
        type = types.enum [
          "refuse"
          "confirm"
        ];
        default = defaults.packages;
        description = describe "packages";
      };
      limit_overrides = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = mapAttrs (key: _: limit (types.nullOr types.int) null key) limits;
          }
        );
        default = defaults.limit_overrides;
        example = {
          "c++".max_process_count = 128;
        };
        description = ''
          Key `piston.limit_overrides`: limits of single languages, as `PISTON_LIMIT_OVERRIDES` has them; null: as for all.
        '';
      };
      settings = mkOption {
        internal = true;
        readOnly = true;
        type = types.attrsOf types.anything;
        default =
          let
            said = removeAttrs own [ "settings" ] // {
              limit_overrides = mapAttrs (_: filterAttrs (_: value: value != null)) own.limit_overrides;
            };
          in
          filterAttrs (key: value: value != defaults.${key}) said;
        description = "What the configuration file says of Piston's dialect.";
      };
    };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.profiles ? ${own.profile};
        message = "services.codeSandbox.piston.profile: there is no profile ${own.profile}; write one to services.codeSandbox.profiles";
      }
    ];
  };
}
