use utf8;
my $größe = "ü";
print length($größe), "\n";
binmode STDOUT, ':utf8';
print "$größe\n";
