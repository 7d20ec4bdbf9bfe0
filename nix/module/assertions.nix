# What can't work, each with what to do about it. Types refuse the rest.
{ kinds, data, ... }:
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib)
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    filterAttrs
    hasPrefix
    mapAttrsToList
    mkIf
    unique
    ;
  cfg = config.services.codeSandbox;
  here = "services.codeSandbox";
  quoted = names: concatStringsSep ", " (map (name: "\"${name}\"") names);
  refuse = wrong: message: {
    assertion = !wrong;
    message = "${here}.${message}";
  };
  sysctl = name: config.boot.kernel.sysctl.${name} or null;

  kernel =
    let
      unified = options.systemd.enableUnifiedCgroupHierarchy or null;
      namespaces = sysctl "user.max_user_namespaces";
      # One for the launcher, one for each sandbox, and a few for the host's other services.
      needed = cfg.launcher.sandboxes + 16;
    in
    [
      (refuse
        (
          elem "systemd.unified_cgroup_hierarchy=0" config.boot.kernelParams
          || elem "systemd.unified_cgroup_hierarchy=no" config.boot.kernelParams
          || (unified != null && unified.isDefined && !config.systemd.enableUnifiedCgroupHierarchy)
        )
        "enable: sandboxes are held by cgroup v2; remove systemd.unified_cgroup_hierarchy from boot.kernelParams and systemd.enableUnifiedCgroupHierarchy from the configuration"
      )
      (refuse (
        !(config.security.allowUserNamespaces or true)
      ) "enable: sandboxes are user namespaces; set security.allowUserNamespaces = true")
      (refuse (namespaces != null && lib.toInt (toString namespaces) < needed)
        "enable: each sandbox is a user namespace, and boot.kernel.sysctl.\"user.max_user_namespaces\" allows ${toString namespaces}; raise it to at least ${toString needed}, or lower launcher.sandboxes"
      )
      (refuse
        (
          let
            clone = sysctl "kernel.unprivileged_userns_clone";
          in
          clone != null
          && elem (toString clone) [
            "0"
            ""
          ]
        )
        "enable: the launcher makes user namespaces without being root; set security.unprivilegedUsernsClone = true, and do not set boot.kernel.sysctl.\"kernel.unprivileged_userns_clone\" to 0"
      )
    ];

  network = [
    (refuse (cfg.network.table.enable && !config.networking.nftables.enable)
      "network.table.enable: the table needs nftables; set networking.nftables.enable = true, or leave network.table.enable out"
    )
    (refuse (cfg.network.table.enable && !(options.networking.nftables ? tables))
      "network.table.enable: this nixpkgs has no networking.nftables.tables; use NixOS 23.11 or newer, or set network.table.enable = false"
    )
  ];

  secrets = concatLists (
    mapAttrsToList (name: one: [
      (refuse (!kinds.secretName.check name)
        "secrets.\"${name}\": a secret's name has small letters, digits, \"-\" and \"_\" alone, and begins with a letter; rename it"
      )
      (refuse (hasPrefix builtins.storeDir one.file || hasPrefix "/nix/store" one.file)
        "secrets.${name}.file: ${one.file} is in the Nix store, which everybody can read; name a file outside of it, such as \"/run/keys/${name}\""
      )
    ]) cfg.secrets
  );

  numbers =
    let
      # Of daemon and launcher; else a sandbox within its limit would be killed for the sum.
      ownBytes = 268435456;
      memoryMax = if cfg.slice.MemoryMax == null then null else kinds.bytesOf cfg.slice.MemoryMax;
      memoryHigh = if cfg.slice.MemoryHigh == null then null else kinds.bytesOf cfg.slice.MemoryHigh;
      # 0 is a share of the host's, which is not known here.
      memoryNeeded = cfg.service.memory_budget_bytes + cfg.pool.memory_bytes + ownBytes;
      ids = cfg.subordinate_ids;
      # Two for each sandbox, and one for the launcher's own.
      idsNeeded = 3 * cfg.launcher.sandboxes + 1;
    in
    [
      (refuse (memoryMax != null && cfg.service.memory_budget_bytes != 0 && memoryNeeded > memoryMax)
        "service.memory_budget_bytes: ${toString cfg.service.memory_budget_bytes}, pool.memory_bytes, ${toString cfg.pool.memory_bytes}, and 256 MiB for daemon and launcher are more than slice.MemoryMax, which is ${cfg.slice.MemoryMax}; lower the first two or raise the last"
      )
      (refuse (memoryMax != null && cfg.pool.memory_bytes + ownBytes > memoryMax)
        "pool.memory_bytes: ${toString cfg.pool.memory_bytes}, and 256 MiB for daemon and launcher, are more than slice.MemoryMax, which is ${cfg.slice.MemoryMax}; lower the one or raise the other"
      )
      (refuse (memoryMax != null && memoryHigh != null && memoryHigh > memoryMax)
        "slice.MemoryHigh: ${cfg.slice.MemoryHigh} is more than slice.MemoryMax, ${cfg.slice.MemoryMax}, and would never be reached; lower it"
      )
      (refuse (cfg.queue.length_per_client > cfg.queue.length)
        "queue.length_per_client: ${toString cfg.queue.length_per_client} is more than queue.length, ${toString cfg.queue.length}; lower it to that at most"
      )
      (refuse (cfg.concurrency > cfg.launcher.sandboxes)
        "concurrency: ${toString cfg.concurrency} sandboxes can't run at one time where launcher.sandboxes lets ${toString cfg.launcher.sandboxes} live; raise launcher.sandboxes"
      )
      (refuse (ids.count < idsNeeded)
        "subordinate_ids.count: ${toString cfg.launcher.sandboxes} sandboxes need ${toString idsNeeded} ids and there are ${toString ids.count}; raise it, or lower launcher.sandboxes"
      )
      (refuse (
        ids.first + ids.count > 4294967295
      ) "subordinate_ids: the last id would be above 4294967294; lower subordinate_ids.first")
    ]
    ++ overlaps;

  groups =
    let
      own = [
        "codesandbox"
        "codesandbox-launcher"
      ];
      members = config.users.groups.codesandbox.members or [ ];
    in
    [
      (refuse (elem cfg.socket.group own) "socket.group: \"${cfg.socket.group}\" is a group of the service itself, whose members talk to the launcher; name another, such as \"codesandbox-clients\"")
      (refuse (elem cfg.metrics.socket.group own) "metrics.socket.group: \"${cfg.metrics.socket.group}\" is a group of the service itself, whose members talk to the launcher; name another, such as \"codesandbox-metrics\"")
      (refuse (elem cfg.judge0.socket.group own) "judge0.socket.group: \"${cfg.judge0.socket.group}\" is a group of the service itself, whose members talk to the launcher; name another, such as \"codesandbox-clients\"")
      (refuse (elem cfg.mcp.socket.group own) "mcp.socket.group: \"${cfg.mcp.socket.group}\" is a group of the service itself, whose members talk to the launcher; name another, such as \"codesandbox-clients\"")
      (refuse (members != [ ])
        "socket.group: ${quoted members} would talk to the launcher itself as a member of the group codesandbox; clients are members of \"${cfg.socket.group}\""
      )
    ];

  overlaps =
    let
      ids = cfg.subordinate_ids;
      others = filterAttrs (name: _: name != "codesandbox-launcher") config.users.users;
      within = id: id != null && ids.first <= id && id < ids.first + ids.count;
      meets = range: range.startUid < ids.first + ids.count && ids.first < range.startUid + range.count;
    in
    mapAttrsToList (
      name: user:
      refuse (within (user.uid or null) || lib.any meets (user.subUidRanges or [ ]))
        "subordinate_ids: the range has ids of users.users.${name} in it, so that its processes and sandboxes would share them; choose another subordinate_ids.first"
    ) others;

  profiles = concatLists (
    mapAttrsToList (
      name: profile:
      [
        (refuse (!kinds.profileName.check name)
          "profiles.\"${name}\": a profile's name has small letters, digits, \"-\" and \"_\" alone, and begins with a letter; rename it"
        )
      ]
      ++ lib.optionals (lib.isAttrs profile.network) (
        concatLists (
          mapAttrsToList (variable: secret: [
            (refuse (!kinds.variable.check variable)
              "profiles.${name}.network.secrets.\"${variable}\": a variable has letters, digits and \"_\" alone, and no digit at its beginning; rename it"
            )
            (refuse (!(cfg.secrets ? ${secret}))
              "profiles.${name}.network.secrets.${variable}: there is no secret \"${secret}\"; there are ${quoted (attrNames cfg.secrets)}"
            )
          ]) profile.network.secrets
        )
        ++ [
          (refuse (!cfg.network.public && profile.network.allow != [ ])
            "profiles.${name}.network: it allows what network.public = false refuses to all; set network.public = true, or make it \"none\" or \"loopback\""
          )
        ]
        ++ lib.imap1 (
          number: destination:
          let
            hosts = filter (host: destination.${host} != null) [
              "domain"
              "suffix"
              "cidr"
            ];
          in
          refuse (lib.length hosts != 1)
            "profiles.${name}.network.allow: entry ${toString number} has ${
              if hosts == [ ] then "none" else quoted hosts
            }; a destination has exactly one of domain, suffix and cidr"
        ) profile.network.allow
      )
      ++
        concatMap
          (
            section:
            mapAttrsToList (
              limit: value:
              refuse (value > profile.maximum.${limit})
                "profiles.${name}.${section}.${limit}: ${toString value} is above the profile's maximum, ${
                  toString profile.maximum.${limit}
                }; lower it, or raise profiles.${name}.maximum.${limit}"
            ) profile.${section}
          )
          [
            "compile"
            "run"
          ]
    ) cfg.profiles
  );

  clients =
    let
      named = concatMap (client: unique client.users) (attrValues cfg.clients);
      twice = unique (filter (user: lib.count (other: other == user) named > 1) named);
    in
    map (
      user:
      refuse true "clients: user \"${user}\" is in ${
        quoted (attrNames (filterAttrs (_: client: elem user client.users) cfg.clients))
      }; a user is one client, so leave one of them"
    ) twice
    ++ concatLists (
      mapAttrsToList (name: client: [
        (
          let
            unknown = filter (profile: !(cfg.profiles ? ${profile})) client.profiles;
          in
          refuse (unknown != [ ])
            "clients.${name}.profiles: there is no profile ${quoted unknown}; there are ${quoted (attrNames cfg.profiles)}"
        )
        (refuse (client.queue_length > cfg.queue.length)
          "clients.${name}.queue_length: ${toString client.queue_length} is more than queue.length, ${toString cfg.queue.length}; lower it to that at most"
        )
        (refuse (client.concurrency > cfg.launcher.sandboxes)
          "clients.${name}.concurrency: ${toString client.concurrency} is more than launcher.sandboxes, ${toString cfg.launcher.sandboxes}; lower it to that at most"
        )
        (refuse (client.sessions != null && client.sessions > cfg.sessions.sessions)
          "clients.${name}.sessions: ${toString client.sessions} is more than sessions.sessions, ${toString cfg.sessions.sessions}; lower it to that at most"
        )
      ]) cfg.clients
    );

  enabledOf = language: filter (one: one.enable) (attrValues (cfg.runtimes.${language} or { }));
  runtimes =
    concatLists (
      mapAttrsToList (
        language: versions:
        [
          (refuse (!(cfg.knownLanguages ? ${language}))
            "runtimes.\"${language}\": no such language; there are ${quoted (attrNames cfg.knownLanguages)}, and others are declared under languages"
          )
        ]
        ++ lib.optionals (cfg.knownLanguages ? ${language}) (
          let
            known = cfg.knownLanguages.${language};
            exact = map (one: one.version) (enabledOf language);
            again = unique (filter (one: lib.count (other: other == one) exact > 1) exact);
          in
          [
            (refuse (again != [ ])
              "runtimes.\"${language}\": version ${quoted again} is there twice; give one of them another version"
            )
          ]
          ++ concatLists (
            mapAttrsToList (
              name: one:
              let
                missing = filter (key: !(one.programs ? ${key})) known.programKeys;
              in
              lib.optionals one.enable [
                (refuse (missing != [ ])
                  "runtimes.\"${language}\".\"${name}\".programs: the command lines of ${language} also call ${quoted missing}; give their paths"
                )
                (refuse (one.package.meta.unsupported or false)
                  "runtimes.\"${language}\".\"${name}\": ${lib.getName one.package} is not to be had for ${pkgs.stdenv.hostPlatform.system}; set enable = false"
                )
              ]
            ) versions
          )
        )
      ) cfg.runtimes
    )
    ++ [
      (refuse (lib.all (language: enabledOf language == [ ]) (
        attrNames cfg.runtimes
      )) "runtimes: none is enabled, so that nothing could be run; enable one, or set runtimes_set")
    ];

  defaults = concatLists (
    mapAttrsToList (
      language: weights:
      let
        there = map (one: one.version) (enabledOf language);
        fits = wanted: lib.any (version: version == wanted || hasPrefix "${wanted}." version) there;
        missing = filter (version: !fits version) (attrNames weights);
      in
      [
        (refuse (missing != [ ])
          "defaults.${language}: version ${quoted missing} is not enabled; ${
            if there == [ ] then "no version of ${language} is" else "there are ${quoted there}"
          }"
        )
        (refuse (lib.foldl' (sum: weight: sum + weight) 0 (attrValues weights) == 0)
          "defaults.${language}: the weights add up to 0, so that no version could be chosen; give one of them a weight above 0"
        )
      ]
    ) cfg.defaults
  );

  languages = concatLists (
    mapAttrsToList (name: language: [
      (refuse
        (
          !(
            language ? name && language ? versions && language ? run && language ? probe && language ? program
          )
        )
        "languages.${name}: a language is complete, in the shape of profiles/languages/${lib.head (attrNames data.languages)}.toml; name, program, run, probe and versions are needed at least"
      )
    ]) cfg.languages
  );
in
{
  config.assertions = mkIf cfg.enable (
    kernel
    ++ network
    ++ secrets
    ++ numbers
    ++ groups
    ++ profiles
    ++ clients
    ++ languages
    ++ runtimes
    ++ defaults
  );
}
