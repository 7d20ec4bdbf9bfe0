# What the module makes of each host of hosts/, as data that `render` writes down.
{ nixpkgs }:
let
  flake = import (nixpkgs + "/flake.nix");
  self = flake.outputs { inherit self; } // {
    outPath = nixpkgs.outPath or nixpkgs;
  };
  inherit (self) lib;
  inherit (lib)
    concatLists
    filterAttrs
    hasPrefix
    mapAttrs
    mapAttrsToList
    ;
  root = ../..;
  directories = filterAttrs (_: type: type == "directory") (builtins.readDir (root + "/hosts"));

  packages = import (root + "/nix/module/tests/packages.nix") { inherit lib; };

  # Disks, and machines that something else describes, are not either.
  specialArgs = {
    sandbox.nixosModules.default = import (root + "/module.nix") { };
    disko.nixosModules.disko.options.disko = lib.mkOption { type = lib.types.raw; };
  }
  //
    lib.optionalAttrs
      (!builtins.pathExists (nixpkgs + "/nixos/modules/virtualisation/amazon-image.nix"))
      {
        modulesPath = toString ./stand-ins;
      };

  ours = name: _: hasPrefix "codesandbox" name;
  rendered =
    name: _:
    let
      inherit
        (self.lib.nixosSystem {
          inherit specialArgs;
          modules = [
            (root + "/hosts/${name}")
            packages
          ];
        })
        config
        ;
      cfg = config.services.codeSandbox;
      clients = lib.unique (lib.concatMap (client: client.users) (lib.attrValues cfg.clients));
      users = filterAttrs (user: _: ours user null || lib.elem user clients) config.users.users;
    in
    {
      failed = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
      inherit (config) warnings;
      units = mapAttrs (_: unit: unit.text) (filterAttrs ours config.systemd.units);
      nftables = mapAttrs (_: table: { inherit (table) family content; }) (
        filterAttrs (
          table: _: config.networking.nftables.enable && ours table null
        ) config.networking.nftables.tables
      );
      tmpfiles = concatLists (
        mapAttrsToList (
          path: types:
          mapAttrsToList (type: rule: {
            inherit path type;
            inherit (rule) mode argument;
          }) types
        ) config.systemd.tmpfiles.settings."10-codesandbox"
      );
      sysctl = lib.getAttrs (lib.attrNames (
        filterAttrs (_: set: set) cfg.hardening.sysctl
      )) config.boot.kernel.sysctl;
      groups = lib.unique (
        [ cfg.socket.group ]
        ++ lib.optional cfg.metrics.enable cfg.metrics.socket.group
        ++ lib.attrNames (filterAttrs ours config.users.groups)
      );
      users = mapAttrs (_: user: {
        inherit (user) description group;
        subuid = user.subUidRanges;
        subgid = user.subGidRanges;
      }) users;
      members = lib.genAttrs clients (_: cfg.socket.group);
      config = cfg.settings;
      runtimes = cfg.enabledRuntimes;
    };
in
mapAttrs rendered directories
