# The second lock on the network. The first is inside each sandbox; this one is the host's own and
# holds whatever runs as a sandbox's or our users' ids, and whatever runs in the launcher's group,
# also where the first should have a hole.
{ kinds, ... }:
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib)
    concatStringsSep
    filter
    literalExpression
    mkIf
    mkOption
    optionals
    types
    ;
  inherit (kinds) isIpv6;
  cfg = config.services.codeSandbox;
  net = cfg.network;
  ids = cfg.subordinate_ids;

  # What is not public. RFC 6890 and its kin; the host's own public addresses the table knows by itself.
  never = [
    "0.0.0.0/8" # this network
    "10.0.0.0/8" # private
    "100.64.0.0/10" # carrier-grade NAT, and overlay networks that live there
    "127.0.0.0/8" # loopback
    "169.254.0.0/16" # link-local, and with it the metadata services of clouds
    "172.16.0.0/12" # private
    "192.0.0.0/24" # protocol assignments
    "192.0.2.0/24" # documentation
    "192.88.99.0/24" # 6to4 relays, which would lead round this list
    "192.168.0.0/16" # private
    "198.18.0.0/15" # benchmarks
    "198.51.100.0/24" # documentation
    "203.0.113.0/24" # documentation
    "224.0.0.0/4" # multicast
    "240.0.0.0/4" # reserved, and broadcast
    "::/127" # unspecified, loopback
    "::ffff:0:0/96" # IPv4 in disguise
    "64:ff9b::/96" # NAT64: IPv4 in disguise
    "64:ff9b:1::/48" # NAT64 of the network's own
    "100::/64" # discard
    "2001::/23" # protocol assignments, Teredo
    "2001:db8::/32" # documentation
    "2002::/16" # 6to4: IPv4 in disguise
    "3fff::/20" # documentation
    "5f00::/16" # segment routing
    "fc00::/7" # private; fd00:ec2::254 is a metadata service
    "fe80::/10" # link-local
    "fec0::/10" # site-local, of old
    "ff00::/8" # multicast
  ];
  denied = never ++ net.denied;
  # What profiles except of it. Which profile does, the first lock knows; here it is all of them together.
  excepted = lib.unique (
    lib.concatMap (profile: profile.network.allow_private or [ ]) (lib.attrValues cfg.profiles)
  );
  except = net: "${if isIpv6 net then "ip6" else "ip"} daddr ${net} counter name excepted accept";
  setOf =
    type: name: elements:
    "set ${name} { type ${type}; flags interval; auto-merge; elements = { ${concatStringsSep ", " elements} }; }";
  resolver =
    address:
    "${
      if isIpv6 address then "ip6" else "ip"
    } daddr ${address} meta l4proto { tcp, udp } th dport 53 counter name resolver accept";

  # The daemon is one of these users as well. It answers whoever came over TCP, and where Judge0's callbacks are enabled
  # it makes connections of its own, which it holds to public addresses itself; here is the second lock of those.
  daemonRules =
    lib.optionalString cfg.tcp.enable "\n  meta skuid codesandbox meta l4proto tcp ct direction reply accept"
    + lib.optionalString calls "\n  meta skuid codesandbox jump callbacks";
  calls = cfg.judge0.enable && cfg.judge0.enable_callbacks;
  callbacks = lib.optionalString calls ''
    chain callbacks {
      meta l4proto { tcp, udp } th dport 53 accept
      ip daddr 169.254.169.254 counter name metadata goto refuse
      ip6 daddr fd00:ec2::254 counter name metadata goto refuse
    ${
      lib.optionalString (!cfg.judge0.callbacks_allow_private) ''
        fib daddr type { local, broadcast, anycast, multicast } counter name host goto refuse
        ip daddr @denied4 counter name private goto refuse
        ip6 daddr @denied6 counter name private goto refuse
      ''
    }  accept
    }
  '';

  table = ''
    counter resolver { comment "name servers that the configuration names" }
    counter metadata { comment "refused: metadata services of clouds" }
    counter host { comment "refused: the host's own addresses" }
    counter private { comment "refused: private and reserved networks" }
    counter public { comment "${if net.public then "let through" else "refused"}: public addresses" }${
      lib.optionalString (
        excepted != [ ]
      ) "\ncounter excepted { comment \"let through: private networks that profiles except\" }"
    }

    ${setOf "ipv4_addr" "denied4" (filter (one: !isIpv6 one) denied)}
    ${setOf "ipv6_addr" "denied6" (filter isIpv6 denied)}

    # Uplinks are sockets of these users on the host; sandboxes themselves have networks of their own,
    # which this table never sees. Nothing is forwarded for them and nothing reaches them from outside,
    # hence no chain for input and forward.
    chain output {
      type filter hook output priority filter; policy accept;${daemonRules}
      meta skuid { codesandbox, codesandbox-launcher, ${toString ids.first}-${
        toString (ids.first + ids.count - 1)
      } } jump uplinks
    }
    chain uplinks {
      ${concatStringsSep "\n  " (
        map resolver net.resolvers
        ++ [
          "ip daddr 169.254.169.254 counter name metadata goto refuse"
          "ip6 daddr fd00:ec2::254 counter name metadata goto refuse"
          "fib daddr type { local, broadcast, anycast, multicast } counter name host goto refuse"
        ]
        ++ map except excepted
        ++ [
          "ip daddr @denied4 counter name private goto refuse"
          "ip6 daddr @denied6 counter name private goto refuse"
          "counter name public ${if net.public then "accept" else "goto refuse"}"
        ]
      )}
    }
    ${callbacks}# At once and not by silence, so that a program is told and need not wait.
    chain refuse {
      meta l4proto tcp reject with tcp reset
      reject with icmpx admin-prohibited
    }
  '';
in
{
  options.services.codeSandbox.network = {
    table.enable = mkOption {
      type = types.bool;
      default = config.networking.nftables.enable;
      defaultText = literalExpression "config.networking.nftables.enable";
      example = true;
      description = ''
        Whether the host has the nftables table `codesandbox`, which refuses what sandboxes' uplinks may not reach
        and counts it. Needs `networking.nftables.enable`. The launcher's unit is held to the same addresses by
        systemd, with or without it.
      '';
    };
    public = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the uplinks of sandboxes may reach public addresses at all. Which a sandbox may, its profile says;
        here is what none may.
      '';
    };
    denied = mkOption {
      type = types.listOf kinds.network;
      default = [ ];
      example = [
        "198.51.100.0/24"
        "2001:db8:1::/48"
      ];
      description = "Further networks that no sandbox may reach, besides all that are private or reserved.";
    };
    resolvers = mkOption {
      type = types.listOf kinds.address;
      default = [ ];
      example = [ "192.168.1.1" ];
      description = "Name servers that uplinks may ask, on port 53 alone, although their addresses are not public.";
    };
  };

  config = mkIf cfg.enable {
    networking.nftables = mkIf (net.table.enable && options.networking.nftables ? tables) {
      tables.codesandbox = {
        family = "inet";
        content = table;
      };
      # The build that checks the rules has none of the host's users.
      preCheckRuleset = ''
        sed -i 's/skuid { codesandbox, codesandbox-launcher,/skuid { 65531, 65532,/; s/skuid codesandbox /skuid 65531 /' ruleset.conf
      '';
    };

    # By the cgroup, and so in every network namespace. What is allowed is looked at first: loopback, which
    # programs use to talk to themselves, and the addresses that networked sandboxes have on their own loopback
    # device, from which programs speak to the relay.
    systemd.services.codesandbox-launcher.serviceConfig = {
      IPAddressAllow = [
        "localhost"
      ]
      ++ optionals net.public (
        [
          "192.0.2.2"
          "2001:db8::2"
        ]
        ++ net.resolvers
        ++ excepted
      );
      IPAddressDeny = if net.public then denied else [ "any" ];
    };

    # The rules of sandboxes' networks. The launcher has no privilege to have them loaded where modules are
    # locked, as kernel hardening does.
    boot.kernelModules = optionals net.public [
      "nf_tables"
      "nfnetlink_log"
      "nft_chain_nat"
      "nft_ct"
      "nft_limit"
      "nft_log"
      "nft_nat"
      "nft_reject_inet"
    ];
  };
}
