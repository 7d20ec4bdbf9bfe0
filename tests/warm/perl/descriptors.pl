opendir my $directory, '/proc/self/fd';
print join(' ', sort { $a <=> $b } grep { /\d/ } readdir $directory), "\n";
closedir $directory;
open my $null, '<', '/dev/null';
print fileno($null), "\n";
system 'ls /proc/self/fd';
