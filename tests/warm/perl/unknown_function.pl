print "printed\n";
nothing_of_the_kind(1);
