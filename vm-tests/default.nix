# Every scenario as a NixOS test, by name: the very scripts that debian/run runs on Debian.
{
  pkgs,
  lib ? pkgs.lib,
  # The module that is tested, and what it needs as special arguments.
  module,
  specialArgs ? { },
}:
let
  inherit (lib) importJSON mkForce;

  scenarios = ./scenarios;
  names = map (lib.removeSuffix ".py") (
    builtins.filter (lib.hasSuffix ".py") (builtins.attrNames (builtins.readDir scenarios))
  );

  # What scenarios import. Not built against one Python: the driver's own is used.
  library =
    python:
    python.buildPythonPackage {
      pname = "codesandbox-vm";
      version = "0";
      pyproject = true;
      src = ./lib;
      build-system = [ python.setuptools ];
    };

  users = lib.mapAttrs (_: user: {
    isNormalUser = true;
    extraGroups = user.groups;
    # A range is given to every normal user unless this says no.
    autoSubUidGidRange = user.subordinate_ids;
  }) (importJSON ./lib/users.json);

  machine = {
    imports = [ module ];
    services.codeSandbox.enable = true;
    users = { inherit users; };

    # The driver's own setting makes a sandbox that runs out of memory the end of the machine.
    boot.kernel.sysctl."vm.panic_on_oom" = mkForce 0;

    environment.systemPackages = [
      pkgs.curl
      pkgs.openssl
      pkgs.procps
      pkgs.python3
      pkgs.socat
    ];

    virtualisation = {
      cores = 2;
      memorySize = 2048;
      diskSize = 4096;
    };
  };

  test =
    name:
    let
      # What one scenario needs besides stands beside it.
      own = scenarios + "/${name}.nix";
    in
    pkgs.testers.runNixOSTest {
      inherit name;
      node = { inherit specialArgs; };
      nodes.machine.imports = [ machine ] ++ lib.optional (builtins.pathExists own) own;
      globalTimeout = 900;
      extraPythonPackages = python: [ (library python) ];
      testScript = builtins.readFile (scenarios + "/${name}.py") + builtins.readFile ./lib/epilogue.py;
    };
in
lib.genAttrs names test
