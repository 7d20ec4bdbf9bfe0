END { print "end block $?\n" }
exit 3;
