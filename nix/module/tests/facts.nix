# What the module makes of right settings.
{ lib }:
let
  runtimesOf =
    config: map (one: "${one.language}@${one.version}") config.services.codeSandbox.enabledRuntimes;
  launcher = config: config.systemd.services.codesandbox-launcher.serviceConfig;
  daemon = config: config.systemd.services.codesandboxd.serviceConfig;
  table = config: config.networking.nftables.tables.codesandbox.content;
  nftables.networking.nftables.enable = true;
  fact = name: settings: holds: { inherit name settings holds; };
  onNftables = one: one // { host = nftables; };
  package =
    name:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/sh";
    };
  change = name: daemon: launcher: after: {
    inherit
      name
      daemon
      launcher
      after
      ;
  };
in
{
  plain = [
    (fact "the minimal set has the newest of four languages" { runtimes_set = "minimal"; } (
      config:
      map (one: one.language) config.services.codeSandbox.enabledRuntimes == [
        "bash"
        "c"
        "javascript"
        "python"
      ]
      && lib.elem "python@3.14" (runtimesOf config)
    ))
    (fact "the standard set has nothing that upstream has left" { } (
      config:
      lib.elem "python@3.12" (runtimesOf config)
      && !(lib.elem "python@3.9" (runtimesOf config))
      && !(lib.elem "lua@5.1" (runtimesOf config))
    ))
    (fact "an old version comes from its pin" { runtimes.python."3.9".enable = true; } (
      config:
      lib.hasInfix "python3-3.9.19/bin/python3.9"
        (lib.findFirst (one: one.version == "3.9") null config.services.codeSandbox.enabledRuntimes)
        .programs.python
    ))
    (fact "a version of one's own has the programs that its language calls"
      { runtimes.java."99".package = package "jdk99"; }
      (
        config:
        lib.attrNames
          (lib.findFirst (one: one.version == "99") null config.services.codeSandbox.enabledRuntimes).programs
        == [
          "env"
          "java"
          "javac"
          "sh"
        ]
      )
    )
    (fact "libraries are asked of the package"
      {
        runtimes.python."3.14" = {
          package = package "python314" // {
            withPackages =
              libraries:
              package "python314-with-${
                (lib.head (libraries {
                  numpy = package "numpy";
                })).name
              }";
          };
          libraries = packages: [ packages.numpy ];
        };
      }
      (
        config:
        lib.hasInfix "python314-with-numpy/bin/"
          (lib.findFirst (one: one.version == "3.14") null config.services.codeSandbox.enabledRuntimes)
          .programs.python
      )
    )
    (fact "what a program calls by name is on its path" { } (
      config:
      lib.any (lib.hasSuffix "-gcc/bin")
        (lib.findFirst (one: one.language == "rust") null config.services.codeSandbox.enabledRuntimes).path
    ))
    (fact "one limit can be changed alone" { profiles.default.run.processes = 7; } (
      config:
      let
        inherit (config.services.codeSandbox.settings.profiles) default;
      in
      default.run.processes == 7 && default.run.wall_time_ms == 10000
    ))
    (fact "a profile's network says what is said of it and nothing else"
      {
        profiles.default.network.allow = [ { domain = "example.org"; } ];
      }
      (
        config:
        config.services.codeSandbox.settings.profiles.default.network == {
          allow = [ { domain = "example.org"; } ];
        }
      )
    )
    (fact "a runtime's own pool says what is its own and nothing else" {
      pool.runtimes."python-3.13".floor = 4;
    } (config: config.services.codeSandbox.settings.pool.runtimes == { "python-3.13".floor = 4; }))
    (fact "without a directory of its own the cache has systemd's, and the configuration says none" { }
      (
        config:
        (daemon config).CacheDirectory == "codesandbox/compile"
        && (daemon config).CacheDirectoryMode == "0700"
        && !((daemon config) ? ReadWritePaths)
        && !(config.services.codeSandbox.settings.cache ? directory)
      )
    )
    (fact "a cache's own directory is made, and is all that the daemon may write besides"
      { cache.directory = "/srv/cache"; }
      (
        config:
        (daemon config).ReadWritePaths == [ "/srv/cache" ]
        && !((daemon config) ? CacheDirectory)
        && config.services.codeSandbox.settings.cache.directory == "/srv/cache"
        && config.systemd.tmpfiles.settings."10-codesandbox"."/srv/cache".d.user == "codesandbox"
      )
    )
    (fact "sessions are kept in the state directory, which is the daemon's alone" { } (
      config:
      (daemon config).StateDirectory == "codesandbox"
      && (daemon config).StateDirectoryMode == "0700"
      && !(config.services.codeSandbox.settings.sessions ? directory)
    ))
    (fact "directories of one's own are both made, and are all that the daemon may write besides"
      {
        cache.directory = "/srv/cache";
        sessions.directory = "/srv/sessions";
      }
      (
        config:
        lib.sort lib.lessThan (daemon config).ReadWritePaths == [
          "/srv/cache"
          "/srv/sessions"
        ]
        && config.services.codeSandbox.settings.sessions.directory == "/srv/sessions"
        && config.systemd.tmpfiles.settings."10-codesandbox"."/srv/sessions".d.mode == "0700"
      )
    )
    (fact "a client's number of sessions is said where it has one"
      {
        clients.a.users = [ "root" ];
        clients.b = {
          users = [ "nobody" ];
          sessions = 3;
        };
      }
      (
        config:
        let
          inherit (config.services.codeSandbox.settings) clients;
        in
        !(clients.a ? sessions) && clients.b.sessions == 3
      )
    )
    (onNftables (
      fact "the launcher's range of ids is in the table"
        {
          subordinate_ids = {
            first = 2000000;
            count = 65536;
          };
        }
        (
          config:
          lib.hasInfix "codesandbox-launcher, 2000000-2065535" (table config)
          &&
            config.users.users.codesandbox-launcher.subUidRanges == [
              {
                startUid = 2000000;
                count = 65536;
              }
            ]
        )
    ))
    (onNftables (
      fact "nothing but loopback is open to begin with" { } (
        config:
        (launcher config).IPAddressDeny == [ "any" ]
        && (launcher config).IPAddressAllow == [ "localhost" ]
        && lib.hasInfix "counter name public goto refuse" (table config)
      )
    ))
    (onNftables (
      fact "with public addresses the private ones stay closed" { network.public = true; } (
        config:
        lib.elem "169.254.0.0/16" (launcher config).IPAddressDeny
        && lib.elem "10.0.0.0/8" (launcher config).IPAddressDeny
        && !(lib.elem "any" (launcher config).IPAddressDeny)
        && lib.hasInfix "counter name public accept" (table config)
      )
    ))
    (onNftables (
      fact "the table lets the daemon answer over TCP where that is on, and call nobody"
        {
          tcp.enable = true;
          clients.remote.tokens.laptop = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        }
        (
          config:
          lib.hasInfix "meta skuid codesandbox meta l4proto tcp ct direction reply accept" (table config)
          && !(lib.hasInfix "jump callbacks" (table config))
        )
    ))
    (onNftables (
      fact "the table lets callbacks of Judge0 through to public addresses"
        {
          judge0.enable = true;
          judge0.enable_callbacks = true;
        }
        (
          config:
          lib.hasInfix "meta skuid codesandbox jump callbacks" (table config)
          && lib.hasInfix "chain callbacks {" (table config)
          && !(lib.hasInfix "ct direction reply" (table config))
        )
    ))
    (fact "there is no table where nftables is off" { } (
      config: !(config.networking.nftables.tables ? codesandbox)
    ))
    (fact "clients are members of the socket's group" { clients.a.users = [ "root" ]; } (
      config: config.users.groups.codesandbox-clients.members == [ "root" ]
    ))
    (
      fact "a host's own kernel settings stay" { } (
        config: config.boot.kernel.sysctl."kernel.yama.ptrace_scope" == 2
      )
      // {
        host.boot.kernel.sysctl."kernel.yama.ptrace_scope" = 2;
      }
    )
    (fact "Judge0 has a socket of the daemon's, which reaches nothing"
      {
        judge0 = {
          enable = true;
          socket.enable = true;
          authn_token_file = "/run/keys/judge0";
        };
      }
      (
        config:
        let
          daemon = config.systemd.services.codesandboxd.serviceConfig;
        in
        config.systemd.sockets.codesandboxd-judge0.socketConfig.FileDescriptorName == "judge0"
        && daemon.LoadCredential == [ "judge0-authn:/run/keys/judge0" ]
        && daemon.PrivateNetwork
        && daemon.IPAddressDeny == "any"
      )
    )
    (fact "callbacks open the network, and nothing else does"
      {
        judge0 = {
          enable = true;
          enable_callbacks = true;
        };
      }
      (
        config:
        let
          daemon = config.systemd.services.codesandboxd.serviceConfig;
        in
        !daemon.PrivateNetwork
        && daemon.RestrictAddressFamilies == "AF_UNIX AF_INET AF_INET6"
        && daemon.IPAddressDeny == "multicast link-local"
      )
    )
    (fact "metrics have a socket of the daemon's" { metrics.enable = true; } (
      config: config.systemd.sockets.codesandboxd-metrics.socketConfig.Service == "codesandboxd.service"
    ))
    (fact "TCP has a socket of the daemon's, which keeps its own network private"
      {
        tcp.enable = true;
        clients.remote.tokens.laptop = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
      }
      (
        config:
        let
          socket = config.systemd.sockets.codesandboxd-tcp.socketConfig;
        in
        socket.ListenStream == "127.0.0.1:8731"
        && socket.FileDescriptorName == "tcp"
        && socket.Service == "codesandboxd.service"
        && socket.IPAddressDeny == "any"
        && (daemon config).PrivateNetwork
        && (daemon config).RestrictAddressFamilies == "AF_UNIX"
        && config.networking.firewall.allowedTCPPorts or [ ] == [ ]
        &&
          config.services.codeSandbox.settings.tcp == {
            allow_plain = false;
            origins = [ ];
          }
        && config.services.codeSandbox.settings.clients.remote.users == [ ]
      )
    )
    (fact "there is no TCP where nobody asks for it" { } (
      config:
      !(config.systemd.sockets ? codesandboxd-tcp) && !(config.services.codeSandbox.settings ? tcp)
    ))
    (fact "models have a user of their own, who is a client and nothing else" { mcp.enable = true; } (
      config:
      let
        unit = config.systemd.services.codesandbox-mcp.serviceConfig;
      in
      unit.User == "codesandbox-mcp"
      && unit.SupplementaryGroups == [ "codesandbox-clients" ]
      && unit.CapabilityBoundingSet == ""
      && unit.RestrictAddressFamilies == "AF_UNIX"
      && config.systemd.sockets.codesandbox-mcp.socketConfig.SocketMode == "0660"
    ))
    (fact "without models there is nothing of them" { } (
      config: !(config.systemd.services ? codesandbox-mcp) && !(config.users.users ? codesandbox-mcp)
    ))
  ];

  # The daemon tells the launcher of a reload, and so its unit does not.
  changes = [
    (change "a runtime" "reload" "nothing" { runtimes.perl.current.enable = false; })
    (change "a profile" "reload" "nothing" { profiles.default.run.processes = 7; })
    (change "the queue" "reload" "nothing" { queue.length = 1000; })
    (change "what waits" "reload" "nothing" {
      pool = {
        floor = 1;
        runtimes."python-3.13".ceiling = 2;
      };
    })
    (change "the cache's size" "reload" "nothing" { cache.bytes = 2147483648; })
    (change "the cache's directory" "restart" "nothing" { cache.directory = "/srv/cache"; })
    (change "how long sessions stay" "reload" "nothing" { sessions.lifetime_ms = 1000; })
    (change "the sessions' directory" "restart" "nothing" { sessions.directory = "/srv/sessions"; })
    (change "clients" "reload" "nothing" { clients.a.users = [ "root" ]; })
    (change "the number of sandboxes" "reload" "restart" { launcher.sandboxes = 50; })
    (change "the ids" "nothing" "restart" { subordinate_ids.first = 2000000; })
    (change "metrics" "restart" "nothing" { metrics.enable = true; })
    (change "models" "nothing" "nothing" { mcp.enable = true; })
    (change "the slice" "nothing" "nothing" { slice.MemoryMax = "4G"; })
    (change "the socket" "nothing" "nothing" { socket.mode = "0600"; })
    (change "the network" "reload" "restart" { network.public = true; })
    (change "the package" "restart" "restart" { package = package "codesandbox-9"; })
    (
      change "the package, without the launcher" "restart" "nothing" {
        package = package "codesandbox-9";
        launcher.package = package "codesandbox-8";
      }
      // {
        before = {
          package = package "codesandbox-8";
          launcher.package = package "codesandbox-8";
        };
      }
    )
  ];
}
