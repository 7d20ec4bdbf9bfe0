# Profiles: the limits of a sandbox. Those of profiles/sandboxes/ are there and can be changed key
# by key; a new one must name everything, because there is nothing that it could inherit.
{ data, kinds, ... }:
{ lib, ... }:
let
  inherit (lib)
    filterAttrs
    genAttrs
    isAttrs
    mapAttrs
    mkOption
    types
    ;
  inherit (data) sandboxes;

  meanings = {
    wall_time_ms = "Time by the clock on the wall, in milliseconds.";
    cpu_time_ms = "Processor time of all processes together, in milliseconds.";
    cpu_millis = "Share of processors, in thousandths: 1000 is one whole processor.";
    memory_bytes = "Memory of all processes together with the files below `/workspace` and `/tmp`, in bytes.";
    processes = "Processes and threads alive at one time.";
    open_files = "Descriptors that one process may have open.";
    file_size_bytes = "Size of one file, in bytes.";
    disk_bytes = "Size of all files below `/workspace`, `/tmp` and `/dev/shm`, in bytes.";
    disk_files = "Number of files, directories and links below `/workspace`, `/tmp` and `/dev/shm`.";
    output_bytes = "Bytes of standard output, and as many again of standard error.";
    stack_bytes = "Size of the main thread's stack, in bytes.";
  };
  # Nothing at all is a sensible bound here; anywhere else no program could start.
  mayBeZero = [
    "file_size_bytes"
    "output_bytes"
  ];
  sections = {
    compile = "Limits of the compile stage where a request names none.";
    run = "Limits of the run stage where a request names none.";
    maximum = "What a request may raise its limits to.";
  };
  settings = {
    title = {
      type = types.str;
      example = "Homework: ten seconds, no network.";
      description = "What the profile is for, in a sentence that is shown to people.";
    };
    network = {
      type = types.enum [
        "none"
        "loopback"
      ];
      example = "loopback";
      description = ''
        `none`: internet sockets are refused, by name; `loopback`: a loopback device of the sandbox's own, and
        nothing beyond.
      '';
    };
    seccomp = {
      type = types.enum data.filters;
      example = "default";
      description = "The system call filter: a file of profiles/seccomp/.";
    };
    denied_syscall = {
      type = types.enum [
        "error"
        "kill"
      ];
      example = "kill";
      description = "What a refused system call does: it fails with EPERM, or it ends the program.";
    };
  };

  withDefault =
    default: attributes:
    mkOption (attributes // lib.optionalAttrs (default != null) { inherit default; });

  limitsOf =
    preset: section:
    mapAttrs (
      limit: _:
      withDefault (preset.${section}.${limit} or null) {
        type = if lib.elem limit mayBeZero then types.ints.unsigned else types.ints.positive;
        example = sandboxes.default.${section}.${limit};
        description = meanings.${limit} or "Limit `${limit}`; see docs/CONFIGURATION.md.";
      }
    ) sandboxes.default.${section};

  profile =
    { name, ... }:
    let
      preset = sandboxes.${name} or { };
      scalar = filterAttrs (_: value: !isAttrs value) sandboxes.default;
    in
    {
      options =
        mapAttrs (
          key: value:
          withDefault (preset.${key} or null) (
            settings.${key} or {
              type = kinds.ofValue value;
              description = "Key `${key}`; see docs/CONFIGURATION.md.";
            }
          )
        ) scalar
        // mapAttrs (
          section: description:
          mkOption {
            type = types.submodule { options = limitsOf preset section; };
            default = { };
            inherit description;
          }
        ) sections;
    };
in
{
  options.services.codeSandbox.profiles = mkOption {
    type = types.attrsOf (types.submodule profile);
    default = { };
    example = {
      default.run.memory_bytes = 268435456;
      judge.maximum.wall_time_ms = 20000;
    };
    description = ''
      Profiles by name: ${
        lib.concatMapStringsSep ", " (name: "`${name}`") (lib.attrNames sandboxes)
      } are there, and
      what is given here is put on top, key by key. A profile of another name must be complete.
    '';
  };

  config.services.codeSandbox.profiles = genAttrs (lib.attrNames sandboxes) (_: { });
}
