# Where the package of a version comes from: the present nixpkgs, or the older one that still has it.
# Whatever can't be had is one sentence that names the version, the source and what to do.
{
  lib,
  # The present nixpkgs.
  packages,
  # Older ones, by name, not imported yet.
  pins,
  platform,
}:
let
  inherit (lib)
    attrByPath
    genAttrs
    mapAttrs
    splitString
    ;

  # For runtimes alone. Packages this old have known holes; what runs in them is trusted with
  # nothing anyhow. By the platform's own name, and not cross-built, so that caches have them.
  pinned = mapAttrs (
    _: source:
    import source {
      inherit (platform) system;
      config = {
        allowUnfree = false;
        allowInsecurePredicate = _: true;
      };
      overlays = [ ];
    }
  ) pins;

  attempt = set: attribute: builtins.tryEval (attrByPath (splitString "." attribute) null set);
  has =
    set: attribute:
    let
      found = attempt set attribute;
    in
    found.success && found.value != null;

  # Present, and willing to be built here: not broken, insecure, or of another platform.
  isPresent =
    entry:
    !(entry ? pin)
    && has packages entry.nixpkgs
    && (
      let
        available = builtins.tryEval ((attempt packages entry.nixpkgs).value.meta.available or true);
      in
      available.success && available.value
    );

  sourceOf =
    place: entry:
    if !(entry ? pin) then
      {
        inherit packages;
        title = "the nixpkgs of runtimes_from (${packages.lib.version or lib.version})";
      }
    else if pins ? ${entry.pin} then
      {
        packages = pinned.${entry.pin};
        title = "the pin ${entry.pin}";
      }
    else
      throw "${place}: this version comes from the pin ${entry.pin}, which the module was not given; import nixosModules.default of codeSandbox's flake, or give module.nix pins.\"${entry.pin}\", or set ${place}.package, or ${place}.enable = false";

  attributeOf =
    place: entry: attribute:
    let
      source = sourceOf place entry;
    in
    if has source.packages attribute then
      (attempt source.packages attribute).value
    else
      throw "${place}: ${source.title} has no package ${attribute}; set ${place}.package to one that you have, or ${place}.enable = false";

  placeOf = language: version: "services.codeSandbox.runtimes.${language}.\"${version}\"";
in
{
  inherit isPresent;

  # Supported by upstream, and in the present nixpkgs.
  isCurrent = entry: !(entry ? deprecated_since) && isPresent entry;

  packageOf =
    language: version: entry:
    attributeOf (placeOf language version) entry entry.nixpkgs;

  companionsOf =
    language: version: entry: spec:
    map (attributeOf (placeOf language version) entry) (spec.nix_packages or [ ]);

  # `nix_programs` says "bin/python3.12", a path within the package, or "attribute:path".
  programsOf =
    language: version: entry: spec:
    genAttrs spec.programKeys (
      key:
      let
        parts = splitString ":" (entry.nix_programs.${key} or "bin/${key}");
      in
      if lib.length parts == 1 then
        lib.head parts
      else
        "${attributeOf (placeOf language version) entry (lib.head parts)}/${lib.last parts}"
    );

  withLibraries =
    place: package: libraries:
    if package ? withPackages then
      package.withPackages libraries
    else
      throw "${place}.libraries: ${lib.getName package} has no withPackages; leave libraries out, and set package to one that has the libraries in it";
}
