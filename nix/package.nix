# The three programs, with manual pages and completions.
{
  lib,
  installShellFiles,
  libmnl,
  libnftnl,
  pkg-config,
  rustPlatform,
  stdenv,
}:
let
  cargo = lib.importTOML ../Cargo.toml;
  # Building rules of networks needs C libraries, which a build on a bare machine does without.
  nftables = cargo ? features.nftables;
in
rustPlatform.buildRustPackage {
  pname = cargo.package.name;
  inherit (cargo.package) version;

  src = (import ./source.nix { inherit lib; }).program;
  cargoLock.lockFile = ../Cargo.lock;
  buildFeatures = lib.optional nftables "nftables";

  nativeBuildInputs = [ installShellFiles ] ++ lib.optional nftables pkg-config;
  buildInputs = lib.optionals nftables [
    libmnl
    libnftnl
  ];

  # Integration tests make namespaces, which a build may not; the VM tests have them.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/codesandbox man "$TMPDIR/man"
    installManPage "$TMPDIR"/man/*
    for shell in bash fish zsh; do
      $out/bin/codesandbox completions "$shell" > "$TMPDIR/codesandbox.$shell"
    done
    installShellCompletion --cmd codesandbox "$TMPDIR"/codesandbox.{bash,fish,zsh}
  '';

  meta = {
    inherit (cargo.package) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "codesandbox";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
