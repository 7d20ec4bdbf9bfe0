p $0, __FILE__, __dir__, $LOAD_PATH.first
require_relative 'beside'
raise 'text'
