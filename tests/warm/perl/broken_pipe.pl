pipe my $reader, my $writer;
close $reader;
$SIG{PIPE} = sub { print "pipe\n" };
syswrite $writer, 'x';
print "$!\n";
$SIG{PIPE} = 'DEFAULT';
$| = 1;
print "before\n";
syswrite $writer, 'x';
