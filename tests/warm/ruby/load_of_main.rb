puts $0 == __FILE__
load __FILE__, true if ARGV.empty? && ARGV << 'once'
