# line 100 "elsewhere.pl"
print __FILE__, ' ', __LINE__, "\n";
die;
