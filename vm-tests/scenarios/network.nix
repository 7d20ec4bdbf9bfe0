# The units and the profile of the host whose network is tested; the module is there already.
import ../../hosts/networked/configuration.nix { sandbox.nixosModules.default = { }; }
