#!/usr/bin/perl -T
print "never\n";
