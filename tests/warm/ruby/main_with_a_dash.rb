p $0, __FILE__, ARGV
