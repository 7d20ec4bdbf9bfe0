$! = 5;
die "with its own end\n";
