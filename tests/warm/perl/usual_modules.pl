use strict;
use warnings;
use List::Util qw(sum);
use Data::Dumper;
use POSIX qw(floor);
$Data::Dumper::Sortkeys = 1;
print Dumper({ sum => sum(1, 2), floor => floor(2.5) });
