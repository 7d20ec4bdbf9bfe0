# Settings of the kernel that make a hole in it harder to use. Each only tightens; what the host
# itself sets, or what is tighter already, stays.
_:
{ config, lib, ... }:
let
  inherit (lib)
    mapAttrs
    mkIf
    mkOption
    mkOverride
    types
    ;
  cfg = config.services.codeSandbox;

  # Stronger than the defaults of NixOS, weaker than anything that a host says.
  settings = {
    "kernel.dmesg_restrict" = {
      value = 1;
      why = "the kernel's log tells addresses, and what went wrong in other sandboxes";
    };
    "kernel.kptr_restrict" = {
      value = 2;
      why = "addresses of the kernel are half of an attack on it";
    };
    "kernel.unprivileged_bpf_disabled" = {
      value = 1;
      why = "the filter refuses bpf; this holds for whatever gets past it";
    };
    "kernel.yama.ptrace_scope" = {
      value = 1;
      why = "a program may trace its own children, as debuggers do, and nobody else's";
    };
  };
in
{
  options.services.codeSandbox.hardening.sysctl = mapAttrs (
    name: setting:
    mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether `${name}` is set to ${toString setting.value}, unless the host sets it: ${setting.why}.";
    }
  ) settings;

  config = mkIf cfg.enable {
    boot.kernel.sysctl = mapAttrs (_: setting: mkOverride 900 setting.value) (
      lib.filterAttrs (name: _: cfg.hardening.sysctl.${name}) settings
    );
  };
}
