require 'rbconfig'
exec(RbConfig.ruby, __FILE__, 'again') if ARGV.empty?
p ARGV, caller
