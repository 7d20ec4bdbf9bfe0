print "a\n";
print __LINE__, "\n";
die "reason";
