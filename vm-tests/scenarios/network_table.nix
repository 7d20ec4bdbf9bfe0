# The table comes with nftables, which a host need not have.
{ networking.nftables.enable = true; }
