# The NixOS module, `services.codeSandbox`. `import ./module.nix { pins = { nixpkgs-23_11 = …; }; }` gives
# it the older nixpkgs that removed language versions come from; a bare `imports = [ ./module.nix ]`
# works too and has the current versions alone. Its parts are in nix/module.
arguments: {
  _file = ./module.nix;
  # The module may be imported twice, by a host and by what the host imports.
  key = "codesandbox";
  imports = [ (import ./nix/module { pins = arguments.pins or { }; }) ];
}
