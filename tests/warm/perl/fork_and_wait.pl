$| = 1;
my $pid = fork;
if (!$pid) { print "child\n"; exit 5 }
waitpid $pid, 0;
print $? >> 8, "\n";
