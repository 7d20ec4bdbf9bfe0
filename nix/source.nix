# What a build reads, so that a change to anything else rebuilds nothing.
{ lib }:
let
  inherit (lib) fileset;
in
{
  program = fileset.toSource {
    root = ../.;
    fileset = fileset.unions [
      ../Cargo.lock
      ../Cargo.toml
      ../build.rs
      # Cargo wants to see every target that Cargo.toml names.
      ../benches
      ../profiles
      ../src
      # What GET /judge0/license answers.
      ../LICENSE-APACHE
      ../LICENSE-MIT
      # Unit tests compare what the code says of itself with this.
      ../docs/API.md
    ];
  };

  # For lints and for tests that follow every link of the documents: all but what builds leave behind.
  tests = fileset.toSource {
    root = ../.;
    fileset = fileset.difference ../. (fileset.maybeMissing ../target);
  };
}
