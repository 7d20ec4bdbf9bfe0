# docs/OPTIONS.md, from the options themselves. Wants nixpkgs' lib alone: nothing is evaluated but
# what the options say of themselves.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit (lib)
    concatStringsSep
    filter
    hasPrefix
    optional
    ;
  place = "services.codeSandbox";
  evaluated = lib.evalModules {
    modules = [
      ../../module.nix
      # The host's options that defaults of ours name.
      { config._module.check = false; }
    ];
  };
  listed = filter (option: option.visible && !option.internal && hasPrefix "${place}." option.name) (
    lib.optionAttrSetToDocList evaluated.options
  );

  # Profiles are there under any name; one of them shows what each has.
  code =
    value:
    let
      short = lib.generators.toPretty { multiline = false; } value;
      long = lib.generators.toPretty { } value;
      text = value.text or (if lib.stringLength short < 70 then short else long);
    in
    if lib.hasInfix "\n" text then "\n\n```nix\n${lib.removeSuffix "\n" text}\n```" else " `${text}`";
  section =
    option:
    concatStringsSep "\n" (
      [
        "### `${
          lib.replaceStrings [ "runtimes.<name>.<name>" ] [ "runtimes.<language>.<version>" ] (
            lib.removePrefix "${place}." option.name
          )
        }`"
        ""
        (lib.replaceStrings [ "{manpage}" ] [ "" ] (lib.removeSuffix "\n" (option.description or "")))
        ""
        "* Type: ${option.type}"
      ]
      ++ optional (option ? default) "* Default:${code option.default}"
      ++ optional (option ? example) "* Example:${code option.example}"
    );
in
''
  # Options of the NixOS module

  <!-- Written by nix/module/reference from the module itself; do not edit. -->

  All stand below `${place}`. Keys of the configuration file that an option sets are named in its
  description; defaults are those of `profiles/`. A value that can't be is refused when the system is
  evaluated, with a sentence that says what to write instead.

''
+ concatStringsSep "\n\n" (map section listed)
+ "\n"
