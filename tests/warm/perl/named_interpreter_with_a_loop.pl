#!/usr/bin/perl -n
print "line: $_";
