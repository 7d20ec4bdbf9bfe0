open my $maps, '<', '/proc/self/maps';
print grep { /warm|deleted/ } <$maps>;
open my $comm, '<', '/proc/self/comm';
print <$comm>;
