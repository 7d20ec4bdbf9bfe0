thread = Thread.new { raise 'in a thread' }
thread.report_on_exception = false
begin
  thread.join
rescue => error
  puts error.message
end
p Thread.list.size, Thread.main == Thread.current, Thread.current.name
