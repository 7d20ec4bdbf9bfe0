# The service as a whole: whether it is there, what it is built from, how much it does at one time.
{ data, kinds, ... }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mapAttrs
    mkEnableOption
    mkOption
    removeAttrs
    types
    ;
  inherit (kinds) optionOf;
  cfg = config.services.codeSandbox;
  inherit (data.service) service launcher;

  # These have options with names of their own, below.
  namedElsewhere = [
    "concurrency"
    "queue_length"
    "queue_length_per_client"
    "outputs"
  ];
  described =
    section:
    mapAttrs (
      key: value:
      optionOf value {
        description = "Key `${section}.${key}`: ${
          data.serviceComments."${section}.${key}" or "see docs/CONFIGURATION.md"
        }.";
      }
    );
in
{
  options.services.codeSandbox = {
    enable = mkEnableOption "codeSandbox, which runs programs nobody trusts for the members of a group";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = literalExpression "codeSandbox, built by this host's nixpkgs";
      example = literalExpression "inputs.codesandbox.packages.\${pkgs.stdenv.hostPlatform.system}.default";
      description = ''
        The package that holds `codesandboxd`, `codesandbox-launcher` and the command `codesandbox`.
      '';
    };

    concurrency = optionOf service.concurrency {
      example = 8;
      description = "Key `service.concurrency`: ${data.serviceComments."service.concurrency"}.";
    };

    queue = {
      length = optionOf service.queue_length {
        type = types.ints.positive;
        example = 1000;
        description = "Key `service.queue_length`: ${data.serviceComments."service.queue_length"}.";
      };
      length_per_client = optionOf service.queue_length_per_client {
        type = types.ints.positive;
        example = 100;
        description = "Key `service.queue_length_per_client`: how many of the jobs that wait may come from one client.";
      };
    };

    service = described "service" (removeAttrs service namedElsewhere) // {
      outputs = described "service.outputs" service.outputs;
    };

    launcher = {
      package = mkOption {
        type = types.package;
        default = cfg.package;
        defaultText = literalExpression "config.services.codeSandbox.package";
        example = literalExpression "config.services.codeSandbox.package";
        description = ''
          The package that the launcher is taken from. A new launcher ends the sandboxes of the old one;
          keep this at the package of before, and a new `package` restarts the daemon alone.
        '';
      };
      sandboxes = optionOf launcher.sandboxes {
        type = types.ints.positive;
        example = 200;
        description = "Key `launcher.sandboxes`: ${
          data.serviceComments."launcher.sandboxes"
        }. Those that wait count as well.";
      };
      sample_interval_us = optionOf launcher.sample_interval_us {
        type = types.ints.positive;
        description = "Key `launcher.sample_interval_us`: ${
          data.serviceComments."launcher.sample_interval_us"
        }.";
      };
    };
  };
}
