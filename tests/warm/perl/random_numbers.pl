print rand, "\n";
