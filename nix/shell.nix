# What working on this repository needs.
{
  lib,
  bash,
  cargo,
  cargo-deny,
  cargo-nextest,
  clippy,
  codesandbox,
  deadnix,
  mkShell,
  nixfmt,
  python3,
  qemu,
  rust-analyzer,
  rustc,
  rustfmt,
  statix,
  stdenv,
}:
mkShell {
  # On Darwin the package is the command that asks a Linux host, and has nothing to build.
  inputsFrom = lib.optional stdenv.hostPlatform.isLinux codesandbox;
  packages = [
    bash
    cargo
    cargo-deny
    cargo-nextest
    clippy
    deadnix
    nixfmt
    python3
    qemu
    rust-analyzer
    rustc
    rustfmt
    statix
  ];
}
