die "crash on purpose\n";
