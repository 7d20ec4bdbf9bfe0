# The cases of cases.nix that are about clients, runtimes, and the rest of the host.
{
  case,
  onHost,
  nftables,
  withJudge,
  judge,
}:
[
  # Clients.
  (onHost withJudge withJudge (
    case "client_profile"
      "clients.judge.profiles: there is no profile \"juge\"; there are \"agent\", \"build\", \"default\", \"judge\", \"session\""
      {
        clients.judge = judge // {
          profiles = [ "judge" ];
        };
      }
      {
        clients.judge = judge // {
          profiles = [ "juge" ];
        };
      }
  ))
  (onHost withJudge { } (
    case "client_user" "this host declares no user \"judge\"" { clients.judge = judge; } {
      clients.judge = judge;
    }
  ))
  (onHost withJudge withJudge (
    case "client_twice" "user \"judge\" is in \"contest\", \"judge\"; a user is one client"
      { clients.judge = judge; }
      {
        clients = {
          inherit judge;
          contest = judge;
        };
      }
  ))
  (onHost withJudge withJudge (
    case "client_without_users" "it has neither users nor tokens" { clients.judge = judge; } {
      clients.judge.users = [ ];
    }
  ))
  (onHost withJudge withJudge (
    case "client_weight" "between 1 and 1000 "
      {
        clients.judge = judge // {
          weight = 3;
        };
      }
      {
        clients.judge = judge // {
          weight = 0;
        };
      }
  ))
  (onHost withJudge withJudge (
    case "client_queue" "clients.judge.queue_length: 9999 is more than queue.length, 256"
      {
        clients.judge = judge // {
          queue_length = 99;
        };
      }
      {
        clients.judge = judge // {
          queue_length = 9999;
        };
      }
  ))
  (onHost withJudge withJudge (
    case "client_concurrency" "clients.judge.concurrency: 9999 is more than launcher.sandboxes, 1000"
      {
        clients.judge = judge // {
          concurrency = 2;
        };
      }
      {
        clients.judge = judge // {
          concurrency = 9999;
        };
      }
  ))
  (onHost withJudge withJudge (
    case "client_sessions" "clients.judge.sessions: 1001 is more than sessions.sessions, 1000"
      {
        clients.judge = judge // {
          sessions = 1000;
        };
      }
      {
        clients.judge = judge // {
          sessions = 1001;
        };
      }
  ))

  # Runtimes.
  (case "runtimes_set" "one of \"minimal\", \"standard\", \"full\"" { runtimes_set = "minimal"; } {
    runtimes_set = "all";
  })
  (case "unknown_language" "runtimes.\"cobol\": no such language; there are"
    { runtimes.python."3.13".enable = true; }
    {
      runtimes.cobol = { };
    }
  )
  (case "version_without_package"
    "runtimes.python.\"3.99\".package' was accessed but has no value defined"
    {
      runtimes.python."3.13".enable = true;
    }
    { runtimes.python."3.99" = { }; }
  )
  (case "programs_missing"
    "runtimes.\"java\".\"21\".programs: the command lines of java also call \"javac\"; give their paths"
    {
      runtimes.java."21".enable = true;
    }
    {
      runtimes.java."21".programs = {
        java = "bin/java";
      };
    }
  )
  (case "pin_lacks_package"
    "runtimes.python.\"3.10\": the pin nixpkgs-23_11 has no package python310; set"
    {
      runtimes.python."3.9".enable = true;
    }
    { runtimes.python."3.10".enable = true; }
  )
  (case "pin_not_given"
    "runtimes.python.\"3.8\": this version comes from the pin nixpkgs-22_11, which the module was not given"
    {
      runtimes.python."3.9".enable = true;
    }
    { runtimes.python."3.8".enable = true; }
  )
  (case "other_platform"
    "runtimes.\"perl\".\"99\": perl is not to be had for x86_64-linux; set enable = false"
    { runtimes.perl.current.enable = true; }
    {
      runtimes.perl."99".package =
        derivation {
          name = "perl";
          system = "x86_64-linux";
          builder = "/bin/sh";
        }
        // {
          meta.unsupported = true;
        };
    }
  )
  (case "version_name" "version that begins with numbers between dots"
    { runtimes.python."3.13".version = "3.13.2"; }
    {
      runtimes.python."3.13".version = "newest";
    }
  )
  (case "version_twice" "runtimes.\"python\": version \"3.13\" is there twice"
    { runtimes.python."3.12".version = "3.12.9"; }
    {
      runtimes.python."3.12".version = "3.13";
    }
  )
  (case "libraries_of_a_package_without" "has no withPackages; leave libraries out"
    { runtimes.bash.current.enable = true; }
    {
      runtimes.bash.current.libraries = _: [ ];
    }
  )
  (case "nothing_enabled" "runtimes: none is enabled" { runtimes_set = "minimal"; } {
    runtimes_set = "minimal";
    runtimes = {
      bash.current.enable = false;
      c."15".enable = false;
      javascript."26".enable = false;
      python."3.14".enable = false;
    };
  })
  (case "incomplete_language" "languages.zig: a language is complete" { languages = { }; } {
    languages.zig.title = "Zig";
  })
  (case "defaults_version" "defaults.python: version \"3.7\" is not enabled; there are" {
    defaults.python = {
      "3.12" = 90;
      "3.13" = 10;
    };
  } { defaults.python."3.7" = 1; })
  (case "defaults_sum" "defaults.python: the weights add up to 0" { defaults.python."3.12" = 1; } {
    defaults.python."3.12" = 0;
  })
  (case "defaults_weight" "is not of type `unsigned integer" { defaults.python."3.12" = 1; } {
    defaults.python."3.12" = -1;
  })

  # The host.
  (onHost { boot.kernelParams = [ "quiet" ]; }
    { boot.kernelParams = [ "systemd.unified_cgroup_hierarchy=0" ]; }
    (
      case "cgroup_v1" "sandboxes are held by cgroup v2; remove systemd.unified_cgroup_hierarchy" { } { }
    )
  )
  (onHost { boot.kernel.sysctl."user.max_user_namespaces" = 5000; }
    {
      boot.kernel.sysctl."user.max_user_namespaces" = 0;
    }
    (case "user_namespaces" "allows 0; raise it to at least 1016, or lower launcher.sandboxes" { } { })
  )
  (onHost { boot.kernel.sysctl."kernel.unprivileged_userns_clone" = 1; } {
    boot.kernel.sysctl."kernel.unprivileged_userns_clone" = 0;
  } (case "unprivileged_user_namespaces" "set security.unprivilegedUsernsClone = true" { } { }))
  (onHost nftables { } (
    case "table_without_nftables" "the table needs nftables; set networking.nftables.enable = true"
      { network.table.enable = true; }
      {
        network.table.enable = true;
      }
  ))
  (onHost nftables { } (
    case "public_without_table"
      "network.public: sandboxes may reach public addresses, and the host's own table"
      { network.public = true; }
      {
        network.public = true;
      }
  ))
  (onHost nftables (nftables // { virtualisation.docker.enable = true; }) (
    case "docker_beside_nftables" "Docker brings rules of iptables beside networking.nftables" { } { }
  ))
  (onHost nftables nftables (
    case "denied_network" "such as \"192.0.2.0/24\" or \"2001:db8::/32\""
      { network.denied = [ "192.0.2.0/24" ]; }
      {
        network.denied = [ "192.0.2.0/33" ];
      }
  ))
  (onHost nftables nftables (
    case "resolver" "such as \"192.0.2.53\"" { network.resolvers = [ "192.0.2.53" ]; } {
      network.resolvers = [ "dns.example.org" ];
    }
  ))
  (case "subordinate_count"
    "subordinate_ids.count: 1000 sandboxes need 3001 ids and there are 100; raise it"
    {
      subordinate_ids.count = 4000;
    }
    { subordinate_ids.count = 100; }
  )
  (case "subordinate_first" "between 65536 and" { subordinate_ids.first = 2000000; } {
    subordinate_ids.first = 1000;
  })
  (
    let
      other.users.users.other = {
        isSystemUser = true;
        group = "nogroup";
        subUidRanges = [
          {
            startUid = 2000000;
            count = 65536;
          }
        ];
      };
    in
    onHost other other (
      case "subordinate_overlap" "the range has ids of users.users.other in it"
        { subordinate_ids.first = 3000000; }
        {
          subordinate_ids.first = 2000000;
        }
    )
  )
  (onHost { } { users.users.root.extraGroups = [ "codesandbox" ]; } (
    case "member_of_the_launchers_group" "\"root\" would talk to the launcher itself" { } { }
  ))
  (case "hardening" "hardening.sysctl.\"kernel.dmesg_restrict\"' is not of type `boolean'" {
    hardening.sysctl."kernel.dmesg_restrict" = false;
  } { hardening.sysctl."kernel.dmesg_restrict" = 1; })
]
