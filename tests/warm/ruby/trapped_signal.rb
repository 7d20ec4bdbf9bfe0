trap('USR1') { puts 'trapped' }
Process.kill('USR1', $$)
sleep 0.01
puts 'after'
