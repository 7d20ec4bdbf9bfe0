# The documents as a book: `nix build .#docs`, then open result/index.html.
{
  lib,
  mdbook,
  runCommand,
}:
let
  inherit (lib) fileset;
  source = fileset.toSource {
    root = ../.;
    fileset = fileset.unions [
      ../CHANGELOG.md
      ../CONTRIBUTING.md
      ../README.md
      ../SECURITY.md
      (fileset.fileFilter (file: file.hasExt "md") ../docs)
    ];
  };
in
runCommand "codesandbox-docs"
  {
    nativeBuildInputs = [ mdbook ];
    meta.description = "The documents of codeSandbox";
  }
  ''
    cp -r ${source} book
    chmod -R u+w book
    cd book

    # A chapter is named by its first heading, so that no list of them has to be kept.
    chapter() { printf -- '- [%s](%s)\n' "$(sed -n 's/^# //p' "$1" | head -n 1)" "$1"; }
    {
      echo '# Summary'
      for page in README.md docs/*.md CONTRIBUTING.md SECURITY.md CHANGELOG.md; do chapter "$page"; done
    } > SUMMARY.md
    cat > book.toml <<'TOML'
    [book]
    title = "codeSandbox"
    language = "en"
    src = "."
    TOML

    mdbook build --dest-dir "$out"
  ''
