print "never\n";
if (1 {
    print "never\n";
}
