# What profiles/ says, as Nix values: the only home of defaults. Nothing is added here.
{ lib }:
let
  inherit (lib)
    concatMap
    elem
    filter
    filterAttrs
    foldl'
    hasSuffix
    importTOML
    listToAttrs
    mapAttrs'
    nameValuePair
    removeSuffix
    splitString
    unique
    ;

  profiles = ../../profiles;

  # Every TOML file of a directory, by its name without the suffix.
  files =
    directory:
    mapAttrs' (
      file: _: nameValuePair (removeSuffix ".toml" file) (importTOML (directory + "/${file}"))
    ) (filterAttrs (file: _: hasSuffix ".toml" file) (builtins.readDir directory));

  # The programs that the command lines of a language name in braces.
  programKeys =
    language:
    let
      words = concatMap (stage: language.${stage}.argv or [ ]) [
        "compile"
        "run"
        "probe"
      ];
      inBraces =
        word:
        concatMap (part: if builtins.isList part then part else [ ]) (
          builtins.split "\\{([A-Za-z_]+)}" word
        );
      filledIn = [
        "main"
        "stem"
        "sources"
        "flags"
        "memory_mib"
      ];
    in
    unique (
      lib.optional (language ? program) language.program
      ++ filter (key: !elem key filledIn) (concatMap inBraces words)
    );

  # A language with its versions that Nix can supply, by version; "current" is the one whose
  # version is that of the package.
  withVersions =
    language:
    let
      supplied = filter (entry: entry ? nixpkgs) (language.versions or [ ]);
      keyOf = entry: entry.version or "current";
    in
    language
    // {
      programKeys = programKeys language;
      entries = listToAttrs (map (entry: nameValuePair (keyOf entry) entry) supplied);
      # Oldest first, as the file has them.
      order = map keyOf supplied;
    };

  # The comment behind each `key = value` of a TOML text, by section and key.
  comments =
    text:
    (foldl'
      (
        state: line:
        let
          section = builtins.match "\\[([a-z_.]+)].*" line;
          setting = builtins.match "([a-z_]+) *= [^#]*# (.*)" line;
        in
        if section != null then
          state // { section = builtins.head section; }
        else if setting != null then
          state
          // {
            found = state.found // {
              "${state.section}.${builtins.head setting}" = lib.last setting;
            };
          }
        else
          state
      )
      {
        section = "";
        found = { };
      }
      (splitString "\n" text)
    ).found;
in
{
  # Languages by the name that requests use.
  languages = mapAttrs' (_: language: nameValuePair language.name (withVersions language)) (
    files (profiles + "/languages")
  );
  inherit withVersions;
  # Sandbox profiles by name.
  sandboxes = files (profiles + "/sandboxes");
  # Names of the system call filters that a profile may choose; the others are those of our own processes.
  filters = lib.subtractLists [ "agent" "init" "uplink" "worker" ] (
    lib.attrNames (files (profiles + "/seccomp"))
  );
  service = importTOML (profiles + "/service.toml");
  serviceComments = comments (builtins.readFile (profiles + "/service.toml"));
}
