use v5.36;
say "with say";
my sub add($x, $y) { $x + $y }
say add(1, 2);
