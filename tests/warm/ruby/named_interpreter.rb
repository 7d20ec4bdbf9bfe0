#!/usr/bin/env ruby
# frozen_string_literal: true
p __LINE__, 'x'.frozen?, $VERBOSE
raise 'text'
