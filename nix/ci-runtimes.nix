# Two small runtimes for tests, built without nixpkgs from files of Debian's packages: real store paths
# that refer to each other, as those of nixpkgs do. nix/ci gathers the ingredients, a directory each.
{ ingredients }:
let
  ingredient =
    name:
    builtins.path {
      path = ingredients + "/${name}";
      name = "debian-${name}";
    };
  busybox = ingredient "busybox";
  patchelf = ingredient "patchelf";

  # What a shell script may take for granted.
  prelude = ''
    set -eu
    export PATH=$TMPDIR/tools
    ${busybox}/busybox mkdir -p "$PATH"
    ${busybox}/busybox --install -s "$PATH"
    patchelf() { ${patchelf}/loader --library-path ${patchelf} ${patchelf}/patchelf "$@"; }
    # Where FILE finds its libraries: in the store, and nowhere else.
    libraries() { patchelf --set-rpath "$1" "$2"; }
    # With the largest page that any kernel has: programs with fixed addresses break with the usual one.
    program() {
      patchelf --page-size 65536 --set-interpreter "$(echo ${glibc}/lib/ld-linux-*)" --set-rpath "$1" "$2"
    }
  '';
  make =
    name: script:
    derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "${busybox}/busybox";
      args = [
        "sh"
        "-c"
        (prelude + script)
      ];
    };
  copyOf = name: ''
    cp -r ${ingredient name} "$out"
    chmod -R u+w "$out"
  '';

  # Without a reference to anything, and so without the prelude, which names it.
  glibc = derivation {
    name = "glibc";
    system = builtins.currentSystem;
    builder = "${busybox}/busybox";
    args = [
      "sh"
      "-c"
      "${busybox}/busybox cp -r ${ingredient "glibc"} $out"
    ];
  };
  ncurses = make "ncurses" ''
    ${copyOf "ncurses"}
    libraries ${glibc}/lib "$out"/lib/*
  '';
  libraries = make "libraries" ''
    ${copyOf "libraries"}
    for library in "$out"/lib/*; do
      [ -L "$library" ] || libraries "$out/lib:${glibc}/lib" "$library"
    done
  '';
in
rec {
  bash = make "bash" ''
    ${copyOf "bash"}
    program ${ncurses}/lib:${glibc}/lib "$out/bin/bash"
    ln -s bash "$out/bin/sh"
  '';
  python = make "python" ''
    ${copyOf "python"}
    program ${libraries}/lib:${glibc}/lib "$out"/bin/*
    for module in "$out"/lib/python*/lib-dynload/*.so; do
      libraries ${libraries}/lib:${glibc}/lib "$module"
    done
  '';
  # `env`, which scripts name in their first line, and the small programs that they take for granted.
  tools = make "tools" ''
    mkdir -p "$out/bin"
    cp ${busybox}/busybox "$out/bin/busybox"
    for name in cat cp env head ls mkdir mv rm seq sleep sort tail tr wc; do
      ln -s busybox "$out/bin/$name"
    done
  '';
}
