print "loaded\n";
do "./$0" unless $main::once++;
