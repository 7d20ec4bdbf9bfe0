use strict;
use warnings;
print join("|", $0, __FILE__, __LINE__, __PACKAGE__, "@ARGV", $^X, $^V, $], $;, $^O), "\n";
print join(" ", scalar(caller) // 'none', defined((caller(0))[0]) ? 1 : 0), "\n";
print "$_ $INC{$_}\n" for sort keys %INC;
print "@INC\n";
