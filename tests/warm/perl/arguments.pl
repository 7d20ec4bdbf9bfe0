print scalar(@ARGV), "\n";
print "<$_> ", utf8::is_utf8($_) ? 1 : 0, "\n" for @ARGV;
print <>;
