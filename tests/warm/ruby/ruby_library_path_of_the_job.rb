p $LOAD_PATH.first
require 'set'
p defined?(Set)
