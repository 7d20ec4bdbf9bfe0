#!/usr/bin/env perl
print "$^W ", __LINE__, "\n";
