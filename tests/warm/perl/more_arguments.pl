print "<$_>\n" for @ARGV;
print shift, "\n";
