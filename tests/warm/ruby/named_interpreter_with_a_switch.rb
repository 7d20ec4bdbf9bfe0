#!/usr/bin/ruby -w
p $VERBOSE, __LINE__
unused = 1
