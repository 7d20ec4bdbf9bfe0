print "$0 @ARGV\n";
