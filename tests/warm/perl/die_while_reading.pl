my $line = <STDIN>;
die "reason";
