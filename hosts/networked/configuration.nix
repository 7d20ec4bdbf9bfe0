# Programs that reach what the profile names, and nothing else.
{ sandbox, ... }:
{
  imports = [ sandbox.nixosModules.default ];
  networking.nftables.enable = true;

  services.codeSandbox = {
    enable = true;

    # Doors besides the daemon's own socket: models come by one of theirs, other machines through a tunnel.
    mcp = {
      enable = true;
      profile = "agent";
    };
    tcp.enable = true;
    # `codesandbox token new` makes a token and this line; nobody has this one.
    clients.remote = {
      tokens.tunnel = "sha256:5f3c9c1b8e27a4d06b7be1f0a94d2c86e3f17a50b9d8426c17e0fa35d2846b9c";
      profiles = [ "agent" ];
    };

    network = {
      # Without it no profile may allow anything.
      public = true;
      # Asked by the uplinks, at port 53 alone, although its address is private.
      resolvers = [ "10.77.0.53" ];
    };

    profiles.agent.network = {
      allow = [
        {
          domain = "packages.example.org";
          ports = [ 443 ];
        }
        {
          suffix = ".example.net";
          ports = [ 443 ];
        }
        {
          cidr = "198.35.26.0/24";
          ports = [ 5432 ];
        }
        {
          cidr = "2620:0:860::/64";
          ports = [ 5432 ];
        }
      ];
      connections = 64;
      bytes = 1073741824;
    };
  };
}
