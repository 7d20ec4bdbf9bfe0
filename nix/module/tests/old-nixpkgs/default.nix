# Stands for an older nixpkgs: it has Python 3.9, and nothing else.
{ system, ... }:
{
  python39 =
    derivation {
      name = "python3-3.9.19";
      inherit system;
      builder = "/bin/sh";
    }
    // {
      pname = "python3";
      version = "3.9.19";
    };
}
