# The host that has them all; the module is there already.
import ../../hosts/networked/configuration.nix { sandbox.nixosModules.default = { }; }
