require 'rbconfig'
puts `#{RbConfig.ruby} -e 'p $0, ARGV, ENV.keys.sort, Dir.children("/proc/self/fd").size, $LOADED_FEATURES.size' 2>&1`
