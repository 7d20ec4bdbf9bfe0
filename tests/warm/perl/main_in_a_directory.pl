print "$0 ", __FILE__, " $INC[0]\n";
require './src/deep/beside.pl';
die;
