print "after the mark\n";
