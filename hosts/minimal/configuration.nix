{ sandbox, ... }:
{
  imports = [ sandbox.nixosModules.default ];
  services.codeSandbox.enable = true;
}
