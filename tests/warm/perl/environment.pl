print "$_=$ENV{$_}\n" for sort keys %ENV;
system 'env';
delete $ENV{EMPTY};
$ENV{LATER} = 'set';
system 'env';
