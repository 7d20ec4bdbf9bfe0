END { puts 'END block' }
at_exit { puts 'handler'; p $! }
BEGIN { puts 'BEGIN block' }
puts 'body'
