#!/usr/bin/perl -w
print "$^W ", __LINE__, "\n";
my $x;
print "a$x\n";
