#!/usr/bin/perl -s -l
print "$flag @ARGV";
