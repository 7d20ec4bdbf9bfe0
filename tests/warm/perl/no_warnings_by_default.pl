my $x;
my $x;
print "a" . $x . "\n" + 1;
$undeclared = 3;
print "$undeclared\n";
@list = (1, 2);
print ${"undeclared"}, "\n";
