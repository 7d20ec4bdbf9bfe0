# The table that a reboot must bring back comes with nftables, which a host need not have.
{ networking.nftables.enable = true; }
