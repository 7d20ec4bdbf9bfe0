p ARGV, ARGV.map(&:frozen?), ARGV.map(&:encoding)
p gets
