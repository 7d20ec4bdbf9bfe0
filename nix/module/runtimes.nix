# Languages and their versions: which are enabled, and what each is made of.
{
  data,
  kinds,
  pins,
}:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    attrNames
    elem
    genAttrs
    literalExpression
    mapAttrs
    mapAttrs'
    mkOption
    nameValuePair
    types
    ;
  cfg = config.services.codeSandbox;
  supply = import ./supply.nix {
    inherit lib pins;
    platform = pkgs.stdenv.hostPlatform;
    packages = cfg.runtimes_from;
  };

  # Languages of the host's own stand beside those of profiles/languages/.
  languages =
    data.languages
    // mapAttrs' (
      key: language: nameValuePair (language.name or key) (data.withVersions language)
    ) cfg.languages;

  # Minimal has one version of each of these. Everything else follows from `deprecated_since` and `pin`.
  minimal = [
    "bash"
    "c"
    "javascript"
    "python"
  ];
  supported =
    language: lib.filter (version: supply.isCurrent language.entries.${version}) language.order;
  inSet =
    name: version:
    let
      language = languages.${name};
      entry = language.entries.${version};
    in
    {
      minimal =
        elem name minimal && supported language != [ ] && version == lib.last (supported language);
      standard = supply.isCurrent entry;
      full = entry ? pin || supply.isPresent entry;
    }
    .${cfg.runtimes_set};

  versionOf =
    language:
    { name, config, ... }:
    let
      entry = languages.${language}.entries.${name} or null;
      package =
        if config.libraries == null then
          config.package
        else
          supply.withLibraries "services.codeSandbox.runtimes.${language}.\"${name}\"" config.package
            config.libraries;
    in
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = if entry == null then true else inSet language name;
          defaultText = literalExpression "whether it is in the set that `runtimes_set` names; true for a version of one's own";
          example = true;
          description = "Whether programs may be run in this version.";
        };
        version = mkOption {
          type = kinds.version;
          default = if name != "current" then name else lib.getVersion config.package;
          defaultText = literalExpression "the name of the version; for `current` that of the package";
          example = "3.12";
          description = "The version that requests select by.";
        };
        package = mkOption (
          {
            type = types.package;
            defaultText = literalExpression "the package that profiles/languages/ names, from `runtimes_from` or from a pin";
            example = literalExpression "pkgs.python313";
            description = "What the version is made of. Its closure is all that sandboxes see of the store.";
          }
          // lib.optionalAttrs (entry != null) { default = supply.packageOf language name entry; }
        );
        libraries = mkOption {
          type = types.nullOr (types.functionTo (types.listOf types.package));
          default = null;
          example = literalExpression "packages: [ packages.numpy packages.pandas ]";
          description = ''
            Libraries that programs may use, out of the package's own set; for packages with `withPackages`, which
            Python, Perl, Ruby, Lua and Haskell have.
          '';
        };
        extra_packages = mkOption {
          type = types.listOf types.package;
          default =
            if entry == null then [ ] else supply.companionsOf language name entry languages.${language};
          defaultText = literalExpression "the language's `nix_packages`, from the same nixpkgs as the package";
          example = literalExpression "[ pkgs.ffmpeg ]";
          description = "Further packages whose commands programs find on their search path.";
        };
        programs = mkOption {
          type = types.attrsOf types.str;
          default =
            if entry == null then
              genAttrs languages.${language}.programKeys or [ ] (key: "bin/${key}")
            else
              supply.programsOf language name entry languages.${language};
          defaultText = literalExpression "bin/<key>, or what `nix_programs` says, for every program that the language's command lines name";
          example = {
            python = "bin/python3.13";
          };
          description = "Paths of the programs, by the keys that command lines use; within the package, or absolute.";
        };
        path = mkOption {
          type = types.listOf types.str;
          default = map (one: "${lib.getBin one}/bin") ([ package ] ++ config.extra_packages);
          defaultText = literalExpression "the bin directories of the package and of extra_packages";
          example = literalExpression "[ \"\${pkgs.gcc}/bin\" ]";
          description = "Directories of the programs' search path, before the usual ones.";
        };
        effective = mkOption {
          internal = true;
          readOnly = true;
          type = types.package;
          default = package;
          description = "The package, with its libraries.";
        };
      };
    };
in
{
  options.services.codeSandbox = {
    runtimes_set = mkOption {
      type = types.enum [
        "minimal"
        "standard"
        "full"
      ];
      default = "standard";
      example = "minimal";
      description = ''
        Which versions are enabled where `runtimes` says nothing else. `minimal`: the newest Python, Node.js, Bash
        and C. `standard`: every version that upstream supports and nixpkgs has. `full`: also the old ones,
        from older nixpkgs where the newer one has dropped them; several gigabytes.
      '';
    };

    runtimes_from = mkOption {
      type = types.raw;
      default = pkgs;
      defaultText = literalExpression "pkgs";
      example = literalExpression "import inputs.nixpkgs-25_11 { inherit (pkgs.stdenv.hostPlatform) system; }";
      description = ''
        The packages that supported versions are taken from. Another nixpkgs than the host's keeps them as
        they are while the host is upgraded.
      '';
    };

    runtimes = mkOption {
      type = types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            freeformType = types.attrsOf (types.submodule (versionOf name));
          }
        )
      );
      default = { };
      example = literalExpression ''
        {
          python."3.12".libraries = packages: [ packages.numpy ];
          python."3.9".enable = true;
          perl.current.enable = false;
          python."3.15" = {
            package = pkgs.python315;
            programs.python = "bin/python3.15";
          };
        }
      '';
      description = ''
        Versions by language and version, as requests name them; `current` where the package tells the version.
        ${lib.concatMapStringsSep ", " (name: "`${name}`") (attrNames data.languages)} are known; those of
        profiles/languages/ that nixpkgs has are there, and others are added by naming `package` and `programs`.
      '';
    };

    languages = mkOption {
      type = types.attrsOf (types.attrsOf types.anything);
      default = { };
      example = literalExpression "{ zig = lib.importTOML ./zig.toml; }";
      description = ''
        Languages of one's own, in the shape of a file of profiles/languages/; complete, and checked when the
        configuration is built.
      '';
    };

    defaults = mkOption {
      type = types.attrsOf (types.attrsOf types.ints.unsigned);
      default = data.service.runtimes.defaults;
      example = {
        python = {
          "3.12" = 90;
          "3.13" = 10;
        };
      };
      description = ''
        Key `runtimes.defaults`: by language, the versions that a request gets that names none, each with its
        weight; here nine of ten requests for `python` get 3.12. A language that isn't named gets its newest.
      '';
    };

    knownLanguages = mkOption {
      internal = true;
      readOnly = true;
      type = types.raw;
      default = languages;
      description = "All languages: those of profiles/languages/, and the host's own.";
    };
  };

  config.services.codeSandbox.runtimes = mapAttrs (
    _: language: genAttrs language.order (_: { })
  ) languages;
}
