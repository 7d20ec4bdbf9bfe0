use strict;
print fileno(DATA), ' ', tell(DATA), "\n";
my $start = tell DATA;
print <DATA>;
seek DATA, $start, 0;
print "again ", scalar(<DATA>);
seek DATA, 0, 0;
print "whole ", <DATA>;
print -s DATA, ' ', (stat DATA)[3], "\n";
system 'ls /proc/self/fd';
__DATA__
one ü
two
