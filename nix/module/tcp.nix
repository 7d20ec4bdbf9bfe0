# TCP: for clients that can't come by the Unix socket. systemd listens, so the daemon needs no network of its own.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    attrNames
    attrValues
    filter
    hasInfix
    hasPrefix
    literalExpression
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;
  own = cfg.tcp;
  isLoopback = hasPrefix "127." own.address || own.address == "::1";
  host = if hasInfix ":" own.address then "[${own.address}]" else own.address;
  lost = filter (
    name:
    let
      client = cfg.clients.${name};
    in
    client.users == [ ] && client.tokens == { }
  ) (attrNames cfg.clients);
in
{
  options.services.codeSandbox.tcp = {
    enable = lib.mkEnableOption ''
      the API over TCP, for clients that show a token; `services.codeSandbox.clients.<name>.tokens` says which.
      Nothing is encrypted: beyond this host that is for a reverse proxy to do. No port of the firewall is opened'';
    address = mkOption {
      type = kinds.address;
      default = "127.0.0.1";
      example = "::1";
      description = "Address to listen on.";
    };
    port = mkOption {
      type = types.port;
      default = 8731;
      example = 8731;
      description = "Port to listen on.";
    };
    allow_plain = mkOption {
      type = types.bool;
      default = false;
      example = literalExpression "true";
      description = "Whether it may be another address than one of the loopback, though tokens, programs and results are not encrypted: where the network itself is, such as that of a VPN.";
    };
    origins = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "https://judge.example.org" ];
      description = "Pages that browsers may ask from, as browsers write them in the header Origin; requests from all others are refused.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = !own.enable || isLoopback || own.allow_plain;
        message = "services.codeSandbox.tcp.address: ${own.address} is no address of the loopback, and nothing is encrypted; put a reverse proxy with TLS before 127.0.0.1, or set tcp.allow_plain = true where the network itself is encrypted";
      }
      {
        assertion = !own.enable || lib.any (client: client.tokens != { }) (attrValues cfg.clients);
        message = "services.codeSandbox.tcp.enable: no client has a token; make one by codesandbox token new, and write its hash to clients.<name>.tokens";
      }
      {
        assertion = lost == [ ];
        message = "services.codeSandbox.clients.${toString lost}: it has neither users nor tokens, so that nobody is this client; give it one, or leave it out";
      }
    ];

    systemd.sockets.codesandboxd-tcp = mkIf own.enable {
      description = "API of codeSandbox over TCP, for those who have a token";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = "${host}:${toString own.port}";
        # By this name the daemon knows that nobody is known by the kernel there.
        FileDescriptorName = "tcp";
        Service = "codesandboxd.service";
        Slice = "codesandbox.slice";
      }
      // lib.optionalAttrs isLoopback {
        # Once more below the daemon, for packets that claim to be from elsewhere.
        IPAddressDeny = "any";
        IPAddressAllow = "localhost";
      };
    };
  };
}
