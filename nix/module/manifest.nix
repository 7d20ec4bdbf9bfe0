# The manifest of runtimes: for each, its programs and every store path that its sandboxes see; and
# the links on the host that lead to them.
_:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    concatLists
    filter
    getBin
    hasPrefix
    literalExpression
    mapAttrs
    mapAttrsToList
    mkIf
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;

  enabled = concatLists (
    mapAttrsToList (
      language: versions:
      map (runtime: { inherit language runtime; }) (filter (one: one.enable) (lib.attrValues versions))
    ) cfg.runtimes
  );

  absolute =
    package: path:
    if hasPrefix "/" path then
      path
    else if hasPrefix "bin/" path then
      "${getBin package}/${path}"
    else
      "${package}/${path}";

  # What a script may take for granted, at /bin/sh and /usr/bin/env.
  usual = {
    sh = "${getBin cfg.runtimes_from.bash}/bin/sh";
    env = "${getBin cfg.runtimes_from.coreutils}/bin/env";
  };

  entryOf =
    { language, runtime }:
    {
      inherit language;
      inherit (runtime) version path;
      programs = usual // mapAttrs (_: absolute runtime.effective) runtime.programs;
    };

  # A derivation each, so that a new version of one language builds nothing else anew. The closure
  # is that of whatever the entry names, no more and no less.
  withClosure =
    entry:
    let
      name = "codesandbox-runtime-${lib.strings.sanitizeDerivationName "${entry.language}-${entry.version}"}.json";
      text = builtins.toJSON entry;
    in
    pkgs.runCommand name
      {
        nativeBuildInputs = [ pkgs.buildPackages.jq ];
        closure = pkgs.closureInfo { rootPaths = [ (pkgs.writeText name text) ]; };
        inherit text;
      }
      ''
        jq --null-input --argjson entry "$text" --rawfile paths "$closure/store-paths" \
          --argjson bytes "$(cat "$closure/total-nar-size")" --arg own "-${name}" \
          '$entry + {
            closure: [$paths | split("\n")[] | select(. != "" and (endswith($own) | not))],
            closure_bytes: $bytes
          }' > "$out"
      '';

  manifest =
    pkgs.runCommand "codesandbox-runtimes.json"
      {
        nativeBuildInputs = [ pkgs.buildPackages.jq ];
        entries = map (one: withClosure (entryOf one)) enabled;
      }
      ''
        jq --slurp '{runtimes: .}' $entries /dev/null > "$out"
      '';

  # `/runtime/bin/python3.12`, as sandboxes have it.
  links = pkgs.linkFarm "codesandbox-links" (
    map (
      one:
      let
        entry = entryOf one;
      in
      {
        name = "${entry.language}${entry.version}";
        path = entry.programs.${cfg.knownLanguages.${entry.language}.program};
      }
    ) enabled
  );
in
{
  options.services.codeSandbox = {
    manifest = mkOption {
      internal = true;
      readOnly = true;
      type = types.package;
      default = manifest;
      defaultText = literalExpression "built from the enabled runtimes";
      description = "The manifest of runtimes.";
    };
    enabledRuntimes = mkOption {
      internal = true;
      readOnly = true;
      type = types.listOf types.raw;
      default = map entryOf enabled;
      description = "The manifest's entries, without their closures.";
    };
  };

  config = mkIf cfg.enable {
    systemd.tmpfiles.settings."10-codesandbox" = {
      "/runtime".d.mode = "0755";
      "/runtime/bin"."L+".argument = "${links}";
      "/runtime/runtimes.json"."L+".argument = "${manifest}";
    };
  };
}
