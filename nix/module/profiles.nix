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
  # A key that is null is left out of the file.
  absent =
    type: attributes:
    mkOption (
      {
        type = types.nullOr type;
        default = null;
      }
      // attributes
    );
  destination.options = {
    domain = absent kinds.domain {
      example = "packages.example.org";
      description = "A host by its whole name. A destination has exactly one of `domain`, `suffix` and `cidr`.";
    };
    suffix = absent kinds.suffix {
      example = ".example.net";
      description = "All hosts below a domain, and not the domain itself.";
    };
    cidr = absent kinds.cidr {
      example = "198.51.100.0/24";
      description = "Addresses that are reached without a name.";
    };
    ports = absent (types.nonEmptyListOf (types.ints.between 1 65535)) {
      example = [ 443 ];
      description = "TCP ports; 80 and 443 where it is null.";
    };
  };
  allowList = {
    allow = mkOption {
      type = types.listOf (types.submodule destination);
      example = [ { domain = "packages.example.org"; } ];
      description = "What can be reached; what none of them names is refused. See docs/NETWORK.md.";
    };
    allow_private = mkOption {
      type = types.listOf kinds.cidr;
      default = [ ];
      example = [ "10.1.0.0/16" ];
      description = ''
        Private networks that destinations may lie in all the same. The host's own addresses and the metadata
        services of clouds are refused also then.
      '';
    };
    connections = absent (types.ints.between 1 4294967295) {
      example = 64;
      description = "Most connections that are open at one time; null for no bound but the service's own.";
    };
    bytes = absent types.ints.positive {
      example = 1073741824;
      description = "Most bytes in both directions, in all.";
    };
    secrets = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        API_TOKEN = "forge";
      };
      description = ''
        Secrets of its sandboxes, by the variable that holds a placeholder: names of `secrets`, each for a host that
        `allow` reaches.
      '';
    };
    bytes_per_second = absent types.ints.positive {
      example = 10485760;
      description = "Most bytes a second, in both directions together.";
    };
  };
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
      type = types.either (types.enum [
        "none"
        "loopback"
      ]) (types.submodule { options = allowList; });
      example = {
        allow = [
          { domain = "packages.example.org"; }
          {
            suffix = ".example.net";
            ports = [ 443 ];
          }
        ];
        connections = 64;
      };
      description = ''
        `none`: internet sockets are refused, by name; `loopback`: a loopback device of the sandbox's own, and
        nothing beyond; or what it can reach besides, over TCP. The last also needs `network.public`.
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
        // {
          dependencies = mkOption {
            type = types.bool;
            default = true;
            example = false;
            description = "Whether those who use it may have packages installed; see docs/DEPENDENCIES.md.";
          };
        }
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
