$stdout.write 'buffered '
$stderr.write 'error '
$stdout.syswrite "direct\n" rescue p $!
$stdout.flush
$stderr.reopen($stdout)
puts 'joined'
raise 'text'
