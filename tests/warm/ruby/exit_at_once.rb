at_exit { puts 'never' }
print 'kept'
$stdout.flush
exit! 4
