print "$^W\n";
