print "buffered ";
print STDERR "error ";
syswrite STDOUT, "direct\n";
$| = 1;
open STDERR, '>&', \*STDOUT;
print "joined\n";
die "reason";
