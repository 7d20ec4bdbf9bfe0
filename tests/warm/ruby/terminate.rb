$stdout.sync = false
print 'text'
Process.kill('TERM', $$)
sleep
