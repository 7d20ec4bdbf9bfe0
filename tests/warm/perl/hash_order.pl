my %table = map { $_ => 1 } 1 .. 100;
print join(' ', keys %table), "\n";
