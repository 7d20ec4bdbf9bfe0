# What `nix flake check` builds on a Linux system, by name.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;
  inherit (self.packages.${system}) codesandbox;
  source = import ./source.nix { inherit lib; };
  prefixed = prefix: lib.mapAttrs' (name: lib.nameValuePair "${prefix}-${name}");

  # The package's build up to its dependencies, and then something else in place of it.
  instead =
    name: attributes:
    codesandbox.overrideAttrs (
      {
        pname = "codesandbox-${name}";
        src = source.tests;
        postInstall = "";
        installPhase = "touch $out";
        # Nothing was installed that they could find.
        dontFixup = true;
      }
      // attributes
    );

  crate = {
    package = codesandbox;

    clippy = instead "clippy" {
      nativeBuildInputs = codesandbox.nativeBuildInputs ++ [ pkgs.clippy ];
      buildPhase = "cargo clippy --offline --locked --all-targets --profile release -- -D warnings";
      doCheck = false;
    };

    # Those that read the repository; those that run programs need namespaces, which the VMs have.
    tests = instead "tests" {
      buildPhase = "cargo test --offline --locked --profile release --lib --bins --test layering --test documents";
      doCheck = false;
    };
  };

  repository = {
    formatting = self.formatter.${system}.check self;

    # docs/OPTIONS.md is what the module says of its options.
    options =
      pkgs.runCommand "codesandbox-options-check"
        {
          said = import ./module/reference.nix { inherit (self.inputs) nixpkgs; };
          passAsFile = [ "said" ];
        }
        ''
          diff -u ${../docs/OPTIONS.md} "$saidPath" || {
            echo "docs/OPTIONS.md is not what the module says; run nix/module/reference" >&2
            exit 1
          }
          touch "$out"
        '';

    # vm-tests/golden is what the module makes of the hosts.
    golden =
      pkgs.runCommand "codesandbox-golden-check"
        {
          nativeBuildInputs = [ pkgs.python3 ];
          # Text alone: nothing that it names is built.
          hosts = builtins.unsafeDiscardStringContext (
            builtins.toJSON (import ../vm-tests/golden/evaluate.nix { inherit (self.inputs) nixpkgs; })
          );
          passAsFile = [ "hosts" ];
          # It asks Nix, which a build cannot: it gets the answer instead.
          script = ''
            import importlib.machinery, importlib.util, json, os, sys

            loader = importlib.machinery.SourceFileLoader("render", sys.argv[1])
            render = importlib.util.module_from_spec(importlib.util.spec_from_loader("render", loader))
            loader.exec_module(render)
            with open(os.environ["hostsPath"]) as file:
                hosts = json.load(file)
            render.evaluate = lambda nixpkgs: hosts
            sys.argv[1:] = ["--check"]
            sys.exit(render.main())
          '';
        }
        ''
          cp -r ${../vm-tests/golden} golden
          NIXPKGS=. PYTHONDONTWRITEBYTECODE=1 python3 -c "$script" golden/render
          touch "$out"
        '';
  };

  hosts = lib.mapAttrs (_: host: host.config.system.build.toplevel) (
    lib.filterAttrs (_: host: host.pkgs.stdenv.hostPlatform.system == system) self.nixosConfigurations
  );

  scenarios = import ../vm-tests {
    inherit pkgs lib;
    module = self.nixosModules.default;
  };
in
crate // repository // prefixed "host" hosts // prefixed "vm" scenarios
