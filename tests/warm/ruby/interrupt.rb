p Signal.trap('INT', 'DEFAULT'), Signal.trap('PIPE', 'SYSTEM_DEFAULT'), Signal.trap('TERM', 'DEFAULT')
$stdout.flush
Process.kill('INT', $$)
sleep
