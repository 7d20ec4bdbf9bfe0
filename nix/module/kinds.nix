# Types whose descriptions say what to write: they are what a person reads who wrote something else.
{ lib }:
let
  inherit (lib) mkOption types;
  matching = description: pattern: types.strMatching pattern // { inherit description; };
  octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  ipv4 = "${octet}(\\.${octet}){3}";
  ipv6 = "[0-9a-fA-F]*:[0-9a-fA-F:.]+";
  label = "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?";
  # A name whose last part is a number would be taken for an address.
  domainName = "(${label}\\.)*[a-zA-Z0-9_]*([a-zA-Z0-9_-]*[a-zA-Z_])[a-zA-Z0-9_]*\\.?";
in
rec {
  size = matching "size in bytes, with K, M, G or T, or a share of the host's memory, such as \"8G\", \"75%\" or \"infinity\"" "[1-9][0-9]*(\\.[0-9]+)?[KMGT]?|([1-9][0-9]?|100)%|infinity";
  count = matching "number, share of what the host can have, or \"infinity\", such as \"4096\" or \"75%\"" "[1-9][0-9]*|([1-9][0-9]?|100)%|infinity";
  percentage = matching "percentage of one processor, such as \"50%\", or \"400%\" for four" "[1-9][0-9]*%";
  weight = types.ints.between 1 10000 // {
    description = "weight between 1 and 10000; systemd gives everything else on the host 100";
  };
  processors = matching "processors by number, such as \"2-7\" or \"0,2,4-6\"" "[0-9]+(-[0-9]+)?([, ][0-9]+(-[0-9]+)?)*";
  mode = matching "file mode in octal, such as \"0660\"" "0?[0-7]{3}";
  socketPath =
    types.addCheck (matching "" "/[^[:space:]:%]+") (path: lib.stringLength path <= 107)
    // {
      description = "absolute path of at most 107 bytes, without spaces, \":\" and \"%\", such as \"/run/codesandbox/api.sock\"";
    };
  directory = matching "absolute path without spaces, \":\", \"%\" and \"..\", such as \"/srv/codesandbox-cache\"" "(/[^/[:space:]:%.][^/[:space:]:%]*)+";
  # A path of Nix would be copied to the store.
  secretFile = matching "absolute path of a file outside of the Nix store, as text, such as \"/run/keys/forge\"" "(/[^/[:space:]:%.][^/[:space:]:%]*)+";
  secretName = matching "name of a secret: small letters, digits, \"-\" and \"_\"" "[a-z][a-z0-9_-]*";
  tokenHash = matching "hash of a token, as codesandbox token new tells it: \"sha256:\" and 64 hexadecimal digits" "sha256:[0-9a-f]{64}";
  variable = matching "name of a variable: letters, digits and \"_\", and no digit at its beginning" "[a-zA-Z_][a-zA-Z0-9_]*";
  userName = matching "name of a user or group: letters, digits, \"-\" and \"_\", at most 31" "[a-zA-Z_][a-zA-Z0-9_-]{0,30}";
  profileName = matching "name of a profile: small letters, digits, \"-\" and \"_\"" "[a-z][a-z0-9_-]*";
  version = matching "version that begins with numbers between dots, such as \"3.12\"" "[0-9]+(\\.[0-9]+)*([^0-9.].*)?";
  address = matching "address of IPv4 or IPv6, such as \"192.0.2.53\"" "${ipv4}|${ipv6}";
  network = matching "address or network of IPv4 or IPv6, such as \"192.0.2.0/24\" or \"2001:db8::/32\"" "(${ipv4})(/([0-9]|[12][0-9]|3[0-2]))?|(${ipv6})(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?";

  cidr = matching "network of IPv4 or IPv6 with its prefix, such as \"198.51.100.0/24\" or \"2001:db8::/32\"" "(${ipv4})/([0-9]|[12][0-9]|3[0-2])|(${ipv6})/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])";
  domain = matching "name of a host, such as \"packages.example.org\": no wildcard, no address" domainName;
  suffix = matching "domain with a dot before it, such as \".example.net\", for all hosts below it" "\\.${domainName}";

  isIpv6 = lib.hasInfix ":";

  # Bytes of a `size`; null where it depends on the host.
  bytesOf =
    text:
    let
      parts = builtins.match "([0-9]+)(\\.[0-9]+)?([KMGT]?)" text;
      factor = {
        "" = 1;
        K = 1024;
        M = 1048576;
        G = 1073741824;
        T = 1099511627776;
      };
    in
    if parts == null then
      null
    else
      builtins.floor (
        builtins.fromJSON "${builtins.elemAt parts 0}${
          if builtins.elemAt parts 1 == null then ".0" else builtins.elemAt parts 1
        }"
        * factor.${builtins.elemAt parts 2}
      );

  # The type of a value that stands in a TOML file.
  ofValue =
    value:
    if builtins.isBool value then
      types.bool
    else if builtins.isInt value then
      types.ints.unsigned
    else if builtins.isString value then
      types.str
    else if builtins.isList value then
      types.listOf types.anything
    else
      types.attrsOf types.anything;

  # An option whose default stands in a TOML file.
  optionOf =
    value: attributes:
    mkOption (
      {
        type = ofValue value;
        default = value;
      }
      // attributes
    );
}
