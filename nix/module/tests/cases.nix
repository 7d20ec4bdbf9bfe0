# Wrong settings with the sentence that each must give, and the right ones beside them. `good` and
# `bad` are what stands below services.codeSandbox; `host`, `good_host` and `bad_host` are the rest of the host.
{ lib }:
let
  case = name: says: good: bad: {
    inherit
      name
      says
      good
      bad
      ;
  };
  onHost =
    good_host: bad_host: one:
    one // { inherit good_host bad_host; };
  nftables = {
    networking.nftables.enable = true;
  };
  withJudge.users.users.judge = {
    isSystemUser = true;
    group = "nogroup";
  };
  judge = {
    users = [ "judge" ];
  };
  # A destination of a profile whose host lets it reach others.
  reaches =
    name: says: good: bad:
    let
      allowing = one: {
        network.public = true;
        profiles.default.network.allow = [ one ];
      };
    in
    onHost nftables nftables (case name says (allowing good) (allowing bad));
  # A profile that has this secret, where there is one.
  having = secret: {
    network.public = true;
    secrets.forge = {
      file = "/run/keys/forge";
      domains = [ "api.example.org" ];
    };
    profiles.default.network = {
      allow = [ { domain = "api.example.org"; } ];
      secrets.API_TOKEN = secret;
    };
  };
  # A service that listens on this address, for a client that has a token.
  token.laptop = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
  listening = settings: {
    tcp = {
      enable = true;
    }
    // settings;
    clients.remote.tokens = token;
  };
  # A profile that names everything.
  complete = (import ../data.nix { inherit lib; }).sandboxes.judge;
in
[
  # Secrets.
  (case "secret_in_the_store" "is in the Nix store, which everybody can read"
    {
      secrets.forge = {
        file = "/run/keys/forge";
        domains = [ "api.example.org" ];
      };
    }
    {
      secrets.forge = {
        file = "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-forge";
        domains = [ "api.example.org" ];
      };
    }
  )
  (onHost nftables nftables (
    case "secret_of_nobody" "there is no secret \"other\"; there are \"forge\"" (having "forge") (
      having "other"
    )
  ))
  # Numbers.
  (case "concurrency" "concurrency' is not of type `unsigned integer, meaning >=0'" {
    concurrency = 4;
  } { concurrency = -1; })
  (case "concurrency_above_sandboxes" "raise launcher.sandboxes" { concurrency = 4; } {
    concurrency = 5000;
  })
  (case "queue_length" "queue.length' is not of type `positive integer, meaning >0'"
    { queue.length = 200; }
    {
      queue.length = 0;
    }
  )
  (case "queue_length_per_client"
    "queue.length_per_client: 128 is more than queue.length, 10; lower it"
    {
      queue = {
        length = 10;
        length_per_client = 10;
      };
    }
    { queue.length = 10; }
  )
  (case "body_bytes" "service.body_bytes' is not of type `unsigned integer"
    { service.body_bytes = 1024; }
    {
      service.body_bytes = "1M";
    }
  )
  (case "check_at_start" "service.check_at_start' is not of type `boolean'"
    { service.check_at_start = false; }
    {
      service.check_at_start = "no";
    }
  )
  (case "unknown_service_key" "The option `services.codeSandbox.service.bodybytes' does not exist" {
    service.body_bytes = 1024;
  } { service.bodybytes = 1024; })
  (case "outputs" "service.outputs.files' is not of type `unsigned integer"
    { service.outputs.files = 8; }
    {
      service.outputs.files = -8;
    }
  )
  (case "sandboxes" "launcher.sandboxes' is not of type `positive integer" { launcher.sandboxes = 8; }
    {
      launcher.sandboxes = 0;
    }
  )
  (case "memory_budget_above_slice"
    "service.memory_budget_bytes: 8500000000, pool.memory_bytes, 0, and 256 MiB for daemon and launcher are more than slice.MemoryMax, which is 8G; lower the first two or raise the last"
    {
      service.memory_budget_bytes = 8000000000;
      slice.MemoryMax = "8G";
    }
    {
      service.memory_budget_bytes = 8500000000;
      slice.MemoryMax = "8G";
    }
  )

  # Sandboxes that wait.
  (case "pool_beside_the_budget_above_slice"
    "service.memory_budget_bytes: 7000000000, pool.memory_bytes, 2000000000, and 256 MiB"
    {
      service.memory_budget_bytes = 7000000000;
      pool.memory_bytes = 1000000000;
      slice.MemoryMax = "8G";
    }
    {
      service.memory_budget_bytes = 7000000000;
      pool.memory_bytes = 2000000000;
      slice.MemoryMax = "8G";
    }
  )
  (case "pool_above_slice"
    "pool.memory_bytes: 2000000000, and 256 MiB for daemon and launcher, are more than slice.MemoryMax, which is 2G; lower the one or raise the other"
    {
      pool.memory_bytes = 1000000000;
      slice.MemoryMax = "2G";
    }
    {
      pool.memory_bytes = 2000000000;
      slice.MemoryMax = "2G";
    }
  )
  (case "pool_floor"
    "pool.floor: 2 can't wait where pool.ceiling is 1; lower the one or raise the other"
    {
      pool = {
        floor = 1;
        ceiling = 1;
      };
    }
    {
      pool = {
        floor = 2;
        ceiling = 1;
      };
    }
  )
  (case "pool_floor_of_a_runtime"
    "pool.runtimes.\"python-3.13\".floor: 33 can't wait where pool.runtimes.\"python-3.13\".ceiling is 32"
    {
      pool.runtimes."python-3.13" = {
        floor = 33;
        ceiling = 33;
      };
    }
    { pool.runtimes."python-3.13".floor = 33; }
  )
  (case "pool_ceiling_of_a_runtime"
    "pool.runtimes.\"python-3.13\".floor: 1 can't wait where pool.runtimes.\"python-3.13\".ceiling is 0"
    {
      pool = {
        floor = 1;
        runtimes."python-3.13" = {
          floor = 0;
          ceiling = 0;
        };
      };
    }
    {
      pool = {
        floor = 1;
        runtimes."python-3.13".ceiling = 0;
      };
    }
  )
  (case "pool_runtime" "pool.runtimes: no runtime \"python-3.7\" is enabled; there are" {
    pool.runtimes."python-3.13".floor = 1;
  } { pool.runtimes."python-3.7".floor = 1; })
  (case "pool_runtime_key"
    "The option `services.codeSandbox.pool.runtimes.\"python-3.13\".warm' does not exist"
    { pool.warm = false; }
    { pool.runtimes."python-3.13".warm = false; }
  )
  (case "pool_above_sandboxes"
    "no more than half of launcher.sandboxes may, 100; lower pool.floor, or raise launcher.sandboxes"
    {
      pool.floor = 1;
      launcher.sandboxes = 200;
    }
    {
      pool.floor = 32;
      launcher.sandboxes = 200;
    }
  )
  (case "pool_idle" "pool.idle_ms' is not of type `unsigned integer" { pool.idle_ms = 0; } {
    pool.idle_ms = "10min";
  })

  # The cache.
  (case "cache_entry_above_cache"
    "cache.entry_bytes: 67108864 is more than cache.bytes, 1000000; lower the one, raise the other, or set cache.bytes = 0"
    {
      cache = {
        bytes = 1000000;
        entry_bytes = 1000000;
      };
    }
    { cache.bytes = 1000000; }
  )
  (case "cache_entry_above_sandbox"
    "cache.entry_bytes: 201326593 is more than a sandbox is given at its start; lower it to 201326592 at most"
    { cache.entry_bytes = 201326592; }
    { cache.entry_bytes = 201326593; }
  )
  (case "cache_entry_of_nothing" "cache.entry_bytes: with 0 nothing could be kept" {
    cache = {
      bytes = 0;
      entry_bytes = 0;
    };
  } { cache.entry_bytes = 0; })
  (case "cache_directory" "such as \"/srv/codesandbox-cache\"" { cache.directory = "/srv/cache"; } {
    cache.directory = "/srv/../etc";
  })
  (case "cache_directory_hidden"
    "cache.directory: the daemon does not see what the host has in /home/cache"
    { cache.directory = "/homes/cache"; }
    { cache.directory = "/home/cache"; }
  )
  (case "cache_shared" "cache.shared' is not of type `boolean'" { cache.shared = true; } {
    cache.shared = "all";
  })

  # Packages.
  (case "dependencies_profile" "dependencies.profile: there is no profile packages" {
    dependencies.profile = "build";
  } { dependencies.profile = "packages"; })

  # Piston's dialect.
  (case "piston_profile" "piston.profile: there is no profile nobody" { piston.profile = "judge"; } {
    piston.profile = "nobody";
  })
  (case "piston_packages" "one of \"refuse\", \"confirm\"" { piston.packages = "confirm"; } {
    piston.packages = "install";
  })

  # Sessions.
  (case "session_idle_time_above_maximum"
    "sessions.idle_timeout_ms: 1800000 is more than sessions.maximum_idle_timeout_ms, 1000; lower the one or raise the other"
    {
      sessions = {
        idle_timeout_ms = 1000;
        maximum_idle_timeout_ms = 1000;
      };
    }
    { sessions.maximum_idle_timeout_ms = 1000; }
  )
  (case "session_lifetime_above_maximum"
    "sessions.lifetime_ms: 2592000001 is more than sessions.maximum_lifetime_ms, 2592000000"
    { sessions.lifetime_ms = 2592000000; }
    { sessions.lifetime_ms = 2592000001; }
  )
  (case "session_log_of_nothing" "sessions.log_bytes: 4095 is too few; raise it to 4096 at least" {
    sessions.log_bytes = 4096;
  } { sessions.log_bytes = 4095; })
  (case "session_without_programs" "sessions.execs_per_session: 0 is too few; raise it to 1 at least"
    { sessions.execs_per_session = 1; }
    { sessions.execs_per_session = 0; }
  )
  (case "sessions_per_client_above_all"
    "sessions.sessions_per_client: 100 is more than sessions.sessions, 99; lower it"
    { sessions.sessions = 0; }
    { sessions.sessions = 99; }
  )
  (case "sessions_directory" "such as \"/srv/codesandbox-cache\"" {
    sessions.directory = "/srv/sessions";
  } { sessions.directory = "sessions"; })
  (case "sessions_directory_hidden"
    "sessions.directory: the daemon does not see what the host has in /tmp/sessions"
    { sessions.directory = "/srv/tmp/sessions"; }
    { sessions.directory = "/tmp/sessions"; }
  )
  (case "sessions_directory_of_the_cache" "sessions.directory: /srv/both is cache.directory"
    {
      cache.directory = "/srv/both/cache";
      sessions.directory = "/srv/both/sessions";
    }
    {
      cache.directory = "/srv/both";
      sessions.directory = "/srv/both";
    }
  )
  (case "unknown_sessions_key" "The option `services.codeSandbox.sessions.lifetime' does not exist" {
    sessions.lifetime_ms = 1000;
  } { sessions.lifetime = 1000; })

  # The slice.
  (case "memory_max" "such as \"8G\", \"75%\" or \"infinity\"" { slice.MemoryMax = "12G"; } {
    slice.MemoryMax = "12GB";
  })
  (case "memory_high" "slice.MemoryHigh: 8G is more than slice.MemoryMax, 6G"
    {
      slice = {
        MemoryMax = "8G";
        MemoryHigh = "6G";
      };
    }
    {
      slice = {
        MemoryMax = "6G";
        MemoryHigh = "8G";
      };
    }
  )
  (case "cpu_quota" "such as \"50%\", or \"400%\" for four" { slice.CPUQuota = "400%"; } {
    slice.CPUQuota = "4";
  })
  (case "cpu_weight" "weight between 1 and 10000" { slice.CPUWeight = 20; } { slice.CPUWeight = 0; })
  (case "io_weight" "weight between 1 and 10000" { slice.IOWeight = 20; } { slice.IOWeight = 10001; })
  (case "tasks_max" "such as \"4096\" or \"75%\"" { slice.TasksMax = "4096"; } {
    slice.TasksMax = "many";
  })
  (case "allowed_cpus" "such as \"2-7\" or \"0,2,4-6\"" { slice.AllowedCPUs = "2-7"; } {
    slice.AllowedCPUs = "all";
  })
  (case "unknown_slice_key" "The option `services.codeSandbox.slice.MemoryMaximum' does not exist" {
    slice.MemoryMax = "8G";
  } { slice.MemoryMaximum = "8G"; })

  # Sockets.
  (case "socket_path" "such as \"/run/codesandbox/api.sock\"" { socket.path = "/run/other/api.sock"; }
    {
      socket.path = "api.sock";
    }
  )
  (case "socket_path_length" "at most 107 bytes" { socket.path = "/run/a.sock"; } {
    socket.path = "/run/${lib.concatStrings (lib.genList (_: "long") 30)}.sock";
  })
  (case "socket_mode" "file mode in octal, such as \"0660\"" { socket.mode = "0600"; } {
    socket.mode = "rw";
  })
  (case "socket_for_everybody" "socket.mode: 0666 lets every user of this host connect"
    { socket.mode = "0660"; }
    {
      socket.mode = "0666";
    }
  )
  (case "socket_group" "name of a user or group" { socket.group = "runners"; } {
    socket.group = "two words";
  })
  (case "socket_group_of_the_service" "socket.group: \"codesandbox\" is a group of the service itself"
    { socket.group = "codesandbox-clients"; }
    { socket.group = "codesandbox"; }
  )
  (case "judge0_profile" "judge0.profile: there is no profile contests"
    {
      judge0 = {
        enable = true;
        profile = "judge";
      };
    }
    {
      judge0 = {
        enable = true;
        profile = "contests";
      };
    }
  )
  (case "metrics_mode" "metrics.socket.mode: 0666 lets every user"
    {
      metrics = {
        enable = true;
        socket.mode = "0660";
      };
    }
    {
      metrics = {
        enable = true;
        socket.mode = "0666";
      };
    }
  )
  (case "mcp_mode" "mcp.socket.mode: 0666 lets every user"
    {
      mcp = {
        enable = true;
        socket.mode = "0660";
      };
    }
    {
      mcp = {
        enable = true;
        socket.mode = "0666";
      };
    }
  )
  (case "mcp_group_of_the_service"
    "mcp.socket.group: \"codesandbox\" is a group of the service itself"
    { mcp.socket.group = "models"; }
    { mcp.socket.group = "codesandbox"; }
  )

  # TCP.
  (case "tcp_beyond_the_loopback"
    "tcp.address: 192.0.2.1 is no address of the loopback, and nothing is encrypted"
    (listening {
      address = "192.0.2.1";
      allow_plain = true;
    })
    (listening {
      address = "192.0.2.1";
    })
  )
  (case "tcp_everywhere" "tcp.address: :: is no address of the loopback"
    (listening { address = "::1"; })
    (listening {
      address = "::";
    })
  )
  (case "tcp_for_nobody" "tcp.enable: no client has a token" (listening { }) { tcp.enable = true; })
  (case "token_itself" "hash of a token, as codesandbox token new tells it" (listening { }) {
    clients.remote.tokens.laptop = "csb_token";
  })

  # Profiles.
  (case "incomplete_profile" "services.codeSandbox.profiles.mine" { profiles.mine = complete; } {
    profiles.mine.title = "Mine";
  })
  (case "limit_above_maximum"
    "profiles.default.run.wall_time_ms: 500000 is above the profile's maximum, 120000; lower it, or raise profiles.default.maximum.wall_time_ms"
    { profiles.default.run.wall_time_ms = 50000; }
    { profiles.default.run.wall_time_ms = 500000; }
  )
  (case "limit_type" "profiles.default.run.processes' is not of type `positive integer" {
    profiles.default.run.processes = 8;
  } { profiles.default.run.processes = 0; })
  (case "unknown_limit"
    "The option `services.codeSandbox.profiles.default.run.walltime' does not exist"
    {
      profiles.default.run.wall_time_ms = 1000;
    }
    { profiles.default.run.walltime = 1000; }
  )
  (case "profile_network" "one of \"none\", \"loopback\"" { profiles.default.network = "loopback"; } {
    profiles.default.network = "full";
  })
  (reaches "profile_network_domain" "name of a host, such as" { domain = "packages.example.org"; } {
    domain = "*.example.org";
  })
  (reaches "profile_network_address" "name of a host, such as" { domain = "4.example"; } {
    domain = "198.51.100.4";
  })
  (reaches "profile_network_suffix" "domain with a dot before it" { suffix = ".example.net"; } {
    suffix = "example.net";
  })
  (reaches "profile_network_cidr" "with its prefix" { cidr = "2001:4860::/32"; } {
    cidr = "2001:4860::/129";
  })
  (reaches "profile_network_ports" "between 1 and 65535"
    {
      domain = "example.org";
      ports = [ 443 ];
    }
    {
      domain = "example.org";
      ports = [ 0 ];
    }
  )
  (reaches "profile_network_no_port" "non-empty"
    {
      domain = "example.org";
      ports = [ 443 ];
    }
    {
      domain = "example.org";
      ports = [ ];
    }
  )
  (reaches "profile_network_two_hosts"
    "profiles.default.network.allow: entry 1 has \"domain\", \"cidr\"; a destination has exactly one of domain, suffix and cidr"
    { domain = "example.org"; }
    {
      domain = "example.org";
      cidr = "198.51.100.0/24";
    }
  )
  (reaches "profile_network_no_host"
    "profiles.default.network.allow: entry 1 has none; a destination has exactly one of domain, suffix and cidr"
    { domain = "example.org"; }
    { ports = [ 443 ]; }
  )
  (reaches "profile_network_key" "profiles.default.network.allow" { domain = "example.org"; } {
    host = "example.org";
  })
  (onHost nftables nftables (
    case "profile_network_private" "profiles.default.network.allow_private"
      {
        network.public = true;
        profiles.default.network = {
          allow = [ { cidr = "10.1.0.0/16"; } ];
          allow_private = [ "10.1.0.0/16" ];
        };
      }
      {
        network.public = true;
        profiles.default.network = {
          allow = [ { cidr = "10.1.0.0/16"; } ];
          allow_private = [ "10.1.0.0" ];
        };
      }
  ))
  (onHost nftables nftables (
    case "profile_network_bound" "profiles.default.network.bytes' is not of type"
      {
        network.public = true;
        profiles.default.network = {
          allow = [ ];
          bytes = 1000;
        };
      }
      {
        network.public = true;
        profiles.default.network = {
          allow = [ ];
          bytes = 0;
        };
      }
  ))
  (onHost nftables nftables (
    case "profile_network_closed"
      "profiles.default.network: it allows what network.public = false refuses to all; set network.public = true"
      {
        network.public = true;
        profiles.default.network.allow = [ { domain = "example.org"; } ];
      }
      { profiles.default.network.allow = [ { domain = "example.org"; } ]; }
  ))
  (case "profile_filter"
    "profiles.default.seccomp' is not of type `value \"default\" (singular enum)'"
    {
      profiles.default.seccomp = "default";
    }
    { profiles.default.seccomp = "off"; }
  )
  (case "denied_syscall" "one of \"error\", \"kill\"" { profiles.default.denied_syscall = "kill"; } {
    profiles.default.denied_syscall = "ignore";
  })
  (case "profile_name" "a profile's name has small letters, digits" { profiles.mine = complete; } {
    profiles."My profile" = complete;
  })
]
++ import ./cases-host.nix {
  inherit
    case
    onHost
    nftables
    withJudge
    judge
    ;
}
