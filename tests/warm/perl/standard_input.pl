print "name? ";
chomp(my $name = <STDIN>);
print "hello $name $.\n";
read STDIN, my $part, 3;
print "$part|", join('|', <>), "\n";
