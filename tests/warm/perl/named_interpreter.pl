#!/usr/bin/perl
use strict;
print __LINE__, " $^W\n";
die;
