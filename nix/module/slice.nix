# codesandbox.slice: what daemon, launcher and all sandboxes together may take of the host.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    filterAttrs
    mapAttrs
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;

  # Every sandbox has limits of its own; these are for all of them, so that a host that runs as many
  # hostile programs as it is allowed to still answers.
  limits = {
    MemoryMax = {
      type = kinds.size;
      default = "90%";
      example = "24G";
      description = "Memory above which sandboxes are killed. Where it is less than three quarters of the host's, set `service.memory_budget_bytes` and `pool.memory_bytes` together below it as well, so that jobs wait instead.";
    };
    MemoryHigh = {
      type = kinds.size;
      default = null;
      example = "20G";
      description = "Memory above which sandboxes are slowed down.";
    };
    CPUQuota = {
      type = kinds.percentage;
      default = null;
      example = "400%";
      description = "Processor time per time.";
    };
    CPUWeight = {
      type = kinds.weight;
      default = 50;
      example = 20;
      description = "Share of the processors where others want them too.";
    };
    TasksMax = {
      type = kinds.count;
      default = "75%";
      example = "20000";
      description = "Processes and threads.";
    };
    IOWeight = {
      type = kinds.weight;
      default = 50;
      example = 20;
      description = "Share of the disks where others want them too.";
    };
    AllowedCPUs = {
      type = kinds.processors;
      default = null;
      example = "2-7";
      description = "Processors that may be used at all.";
    };
  };
in
{
  options.services.codeSandbox.slice = mapAttrs (
    _: limit:
    mkOption (
      limit
      // {
        type = types.nullOr limit.type;
        description = "${limit.description} See {manpage}`systemd.resource-control(5)`; null: no bound of its own.";
      }
    )
  ) limits;

  config = mkIf cfg.enable {
    systemd.slices.codesandbox = {
      description = "codeSandbox: daemon, launcher and every sandbox";
      # A slice cannot be delegated: the sandboxes' groups lie below the launcher's own service.
      sliceConfig = {
        CPUAccounting = true;
        IOAccounting = true;
        MemoryAccounting = true;
        TasksAccounting = true;
      }
      // filterAttrs (_: value: value != null) cfg.slice;
    };
  };
}
