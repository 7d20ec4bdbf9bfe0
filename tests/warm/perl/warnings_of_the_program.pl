use warnings;
my $x;
print "a" . $x . "\n";
warn "text";
my $unused = "abc" + 1;
print undef + 1, "\n";
