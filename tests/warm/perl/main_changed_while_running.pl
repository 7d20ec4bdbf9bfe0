open my $file, '>', __FILE__;
print $file "another\n";
close $file;
die "reason";
