# Sandboxes that wait for requests: how many, of what, and what they may hold meanwhile.
{ data, kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    attrNames
    concatStringsSep
    elem
    filter
    mapAttrs
    mkIf
    mkOption
    removeAttrs
    types
    ;
  cfg = config.services.codeSandbox;
  inherit (data.service) pool;

  # What a runtime may have of its own; where it says nothing, that of all counts.
  ownBound =
    value:
    mkOption {
      type = types.nullOr (kinds.ofValue value);
      default = null;
      example = value + 4;
      description = "As the option of this name that is for all runtimes; null: that one.";
    };

  refuse = wrong: message: {
    assertion = !wrong;
    message = "services.codeSandbox.${message}";
  };
  quoted = names: concatStringsSep ", " (map (name: "\"${name}\"") names);

  boundOf =
    name: bound:
    let
      own = (cfg.pool.runtimes.${name} or { }).${bound} or null;
    in
    if own == null then cfg.pool.${bound} else own;
  bounds = [
    {
      place = "pool";
      inherit (cfg.pool) floor ceiling;
    }
  ]
  ++ map (name: {
    place = "pool.runtimes.\"${name}\"";
    floor = boundOf name "floor";
    ceiling = boundOf name "ceiling";
  }) (attrNames cfg.pool.runtimes);

  known = map (one: "${one.language}-${one.version}") cfg.enabledRuntimes;
  unknown = filter (name: !elem name known) (attrNames cfg.pool.runtimes);
  floors = lib.foldl' (sum: name: sum + boundOf name "floor") 0 known;
  # The launcher keeps the other half for jobs.
  most = cfg.launcher.sandboxes / 2;
in
{
  options.services.codeSandbox.pool =
    mapAttrs (
      key: value:
      kinds.optionOf value { description = "Key `pool.${key}`: ${data.serviceComments."pool.${key}"}."; }
    ) (removeAttrs pool [ "runtimes" ])
    // {
      runtimes = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = {
              floor = ownBound pool.floor;
              ceiling = ownBound pool.ceiling;
            };
          }
        );
        default = pool.runtimes;
        example = {
          "python-3.13" = {
            floor = 4;
            ceiling = 64;
          };
        };
        description = "Key `pool.runtimes`: bounds of single runtimes, by language and version with a hyphen between.";
      };
    };

  config.assertions = mkIf cfg.enable (
    map (
      one:
      refuse (one.floor > one.ceiling)
        "${one.place}.floor: ${toString one.floor} can't wait where ${one.place}.ceiling is ${toString one.ceiling}; lower the one or raise the other"
    ) bounds
    ++ [
      (refuse (
        unknown != [ ]
      ) "pool.runtimes: no runtime ${quoted unknown} is enabled; there are ${quoted known}")
      (refuse (floors > most)
        "pool.floor: ${toString floors} sandboxes are to wait for ${toString (lib.length known)} runtimes, and no more than half of launcher.sandboxes may, ${toString most}; lower pool.floor, or raise launcher.sandboxes"
      )
    ]
  );
}
