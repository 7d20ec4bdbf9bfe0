at_exit { puts 'handler' }
abort 'a reason'
