system $^X, '-e', 'print "$0 @ARGV ", join(" ", sort keys %ENV), " ", join(" ", keys %INC), "\n"; system "ls /proc/self/fd"';
