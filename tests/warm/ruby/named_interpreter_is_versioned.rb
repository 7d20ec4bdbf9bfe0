#!/usr/bin/env ruby3.1
p __LINE__
