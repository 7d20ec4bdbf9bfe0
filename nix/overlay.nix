# Adds this project's programs to a package set.
final: _prev: {
  codesandbox = final.callPackage ./package.nix { };
  codesandbox-remote = final.callPackage ./remote { };
}
