# Packages that jobs and sessions ask for: what installs them, from where, and how many are kept.
{ data, kinds, ... }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    filterAttrs
    isAttrs
    literalExpression
    mapAttrs
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;
  own = cfg.dependencies;
  numbers = filterAttrs (_: value: !isAttrs value) data.service.dependencies;

  installer =
    {
      key,
      package,
      path,
      registry,
    }:
    {
      package = mkOption {
        type = types.package;
        default = pkgs.${package};
        defaultText = literalExpression "pkgs.${package}";
        description = "Key `dependencies.${key}.tool`: the package that has `${path}`. Its closure is seen by the sandboxes in which it installs.";
      };
      registry = mkOption {
        type = types.nullOr (types.strMatching "https?://[^[:space:]]+");
        default = null;
        example = registry;
        description = "Key `dependencies.${key}.registry`: address of the registry. null: requests for such packages are refused.";
      };
    };
  configured =
    tool: path:
    lib.optionalAttrs (tool.registry != null) {
      inherit (tool) registry;
      tool = "${tool.package}/${path}";
      closure = "${pkgs.closureInfo { rootPaths = [ tool.package ]; }}/store-paths";
    };
  uv = "bin/uv";
  npm = "lib/node_modules/npm/bin/npm-cli.js";
in
{
  options.services.codeSandbox.dependencies =
    mapAttrs (
      key: value:
      kinds.optionOf value {
        description = "Key `dependencies.${key}`: ${data.serviceComments."dependencies.${key}"}.";
      }
    ) numbers
    // {
      profile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "packages";
        description = ''
          Key `dependencies.profile`: the profile under which packages are installed. Its network is to allow the
          registries and nothing else; see docs/DEPENDENCIES.md. null: nothing is installed.
        '';
      };
      python = installer {
        key = "python";
        package = "uv";
        path = uv;
        registry = "https://packages.example.org/simple";
      };
      npm = installer {
        key = "npm";
        package = "nodejs";
        path = npm;
        registry = "https://registry.example.org";
      };
      settings = mkOption {
        internal = true;
        readOnly = true;
        type = types.attrsOf types.anything;
        default = lib.optionalAttrs (own.profile != null) (
          lib.getAttrs (lib.attrNames numbers) own
          // {
            inherit (own) profile;
            python = configured own.python uv;
            npm = configured own.npm npm;
          }
        );
        description = "What the configuration file says of packages.";
      };
    };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = own.profile == null || cfg.profiles ? ${own.profile};
        message = "services.codeSandbox.dependencies.profile: there is no profile ${toString own.profile}; write one to services.codeSandbox.profiles";
      }
    ];
  };
}
