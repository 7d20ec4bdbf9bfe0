# Evaluates the cases of cases.nix. Those whose bad half fails to evaluate at all are null in `bad`, and
# `alone.<name>` is for the text of that failure, which only the evaluator's own output has.
{
  nixpkgs,
  system ? "x86_64-linux",
}:
let
  flake = import (nixpkgs + "/flake.nix");
  self = flake.outputs { inherit self; } // {
    outPath = nixpkgs.outPath or nixpkgs;
  };
  inherit (self) lib;
  nixos = import ../../../module.nix { pins.nixpkgs-23_11 = ./old-nixpkgs; };

  packages = import ./packages.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib; };

  cases = import ./cases.nix { inherit lib; };

  configOf =
    settings: host:
    (self.lib.nixosSystem {
      modules = [
        nixos
        packages
        {
          nixpkgs.hostPlatform = system;
          services.codeSandbox = settings // {
            enable = true;
          };
        }
        host
      ];
    }).config;

  evaluate =
    settings: host:
    let
      config = configOf settings host;
      cfg = config.services.codeSandbox;
      result = {
        failed = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
        inherit (config) warnings;
      };
      # The paths of packages alone: what they are made of is not asked.
      whole = builtins.toJSON [
        result
        cfg.settings.service
        cfg.settings.launcher
        cfg.settings.pool
        cfg.settings.cache
        cfg.settings.sessions
        cfg.settings.profiles
        cfg.settings.clients
        cfg.enabledRuntimes
        (map (name: config.systemd.services.${name}.serviceConfig) [
          "codesandboxd"
          "codesandbox-launcher"
        ])
        config.systemd.slices.codesandbox.sliceConfig
        (map (socket: socket.socketConfig) (
          lib.attrValues (lib.filterAttrs (name: _: lib.hasPrefix "codesandbox" name) config.systemd.sockets)
        ))
        (config.networking.nftables.tables.codesandbox.content or "")
        cfg.network.table.enable
      ];
    in
    builtins.seq whole (builtins.unsafeDiscardStringContext (builtins.toJSON result));

  good = case: evaluate case.good (case.good_host or case.host or { });
  bad = case: evaluate case.bad (case.bad_host or case.host or { });
  attempt =
    text:
    let
      tried = builtins.tryEval text;
    in
    if tried.success then builtins.fromJSON tried.value else null;
  byName = lib.listToAttrs (map (case: lib.nameValuePair case.name case) cases);
in
{
  results = map (case: {
    inherit (case) name says;
    good = attempt (good case);
    bad = attempt (bad case);
  }) cases;
  facts = map (fact: {
    inherit (fact) name;
    holds = fact.holds (configOf fact.settings (fact.host or { }));
  }) facts.plain;
  # What a switch to a changed configuration does to the two services.
  changes = map (
    change:
    let
      before = configOf (change.before or { }) { };
      after = configOf change.after { };
      lines =
        config: name:
        lib.splitString "\n" (
          builtins.unsafeDiscardStringContext config.systemd.units."${name}.service".text
        );
      effect =
        name:
        let
          changed = lib.subtractLists (lines before name) (lines after name);
        in
        if changed == [ ] then
          "nothing"
        else if lib.all (lib.hasPrefix "X-Reload-Triggers=") changed then
          "reload"
        else
          "restart";
      is = {
        daemon = effect "codesandboxd";
        launcher = effect "codesandbox-launcher";
      };
    in
    {
      name = "${change.name}: daemon ${is.daemon}, launcher ${is.launcher}";
      holds = is == { inherit (change) daemon launcher; };
    }
  ) facts.changes;
  alone = lib.mapAttrs (_: case: {
    good = good case;
    bad = bad case;
  }) byName;
}
