# The one configuration file: everything that the options say, checked by the real program in its build.
_:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    filterAttrs
    mapAttrs
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;

  # A profile's network, without the keys that say nothing.
  reach =
    network:
    let
      said = filterAttrs (_: value: value != null && value != [ ] && value != { });
    in
    if lib.isAttrs network then said network // { allow = map said network.allow; } else network;

  # Absent, name servers are the host's. It has no certificates in the usual place.
  network =
    lib.optionalAttrs (cfg.network.resolvers != [ ]) { name_servers = cfg.network.resolvers; }
    // lib.optionalAttrs cfg.network.public {
      ca_certificates = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
    };

  settings = {
    runtimes = {
      # A NixOS host has no languages below /usr.
      host = false;
      manifest = "${cfg.manifest}";
      inherit (cfg) defaults;
    };
    service = cfg.service // {
      inherit (cfg) concurrency;
      queue_length = cfg.queue.length;
      queue_length_per_client = cfg.queue.length_per_client;
    };
    pool = cfg.pool // {
      runtimes = mapAttrs (_: filterAttrs (_: value: value != null)) cfg.pool.runtimes;
    };
    # A directory that is absent is what systemd gives; see cache.nix and daemon.nix.
    cache = filterAttrs (_: value: value != null) cfg.cache;
    sessions = filterAttrs (_: value: value != null) cfg.sessions;
    # The ids come from /etc/subuid and /etc/subgid; see users.nix.
    launcher = { inherit (cfg.launcher) sandboxes sample_interval_us; };
    # Absent, a client's number of sessions is that of all.
    clients = mapAttrs (_: filterAttrs (_: value: value != null && value != { })) cfg.clients;
    # Packages are allowed where nothing is said.
    profiles = mapAttrs (
      _: profile:
      removeAttrs profile [ "dependencies" ]
      // {
        network = reach profile.network;
      }
      // lib.optionalAttrs (!profile.dependencies) { dependencies = false; }
    ) cfg.profiles;
  }
  // lib.optionalAttrs (network != { }) { inherit network; }
  // lib.optionalAttrs (cfg.secrets != { }) {
    # Where systemd puts what secrets.nix has it load.
    secrets = mapAttrs (
      name: one: one // { file = "/run/credentials/codesandbox-launcher.service/${name}"; }
    ) cfg.secrets;
  }
  // lib.optionalAttrs (cfg.dependencies.settings != { }) {
    dependencies = cfg.dependencies.settings;
  }
  # The address is that of a socket of systemd's.
  // lib.optionalAttrs cfg.tcp.enable { tcp = { inherit (cfg.tcp) allow_plain origins; }; }
  // lib.optionalAttrs (cfg.judge0.settings != { }) { judge0 = cfg.judge0.settings; }
  // lib.optionalAttrs (cfg.piston.settings != { }) { piston = cfg.piston.settings; }
  // lib.optionalAttrs (cfg.languages != { }) { inherit (cfg) languages; };

  unchecked = (pkgs.formats.json { }).generate "codesandbox-config.json" settings;

  # A program of another platform can't be asked; the daemon then checks when it starts.
  checked =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "codesandbox-config-checked.json" { inherit unchecked; } ''
        ${cfg.package}/bin/codesandboxd --check-config --config "$unchecked"
        cp "$unchecked" "$out"
      ''
    else
      unchecked;
in
{
  options.services.codeSandbox = {
    settings = mkOption {
      internal = true;
      readOnly = true;
      type = types.attrsOf types.anything;
      default = settings;
      description = "What the configuration file says.";
    };
    configFile = mkOption {
      internal = true;
      readOnly = true;
      type = types.package;
      default = checked;
      description = "The configuration file.";
    };
  };

  config = mkIf cfg.enable {
    environment.etc."codesandbox/config.json".source = checked;
    environment.systemPackages = [ cfg.package ];
  };
}
