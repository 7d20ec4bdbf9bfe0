reader, writer = IO.pipe
reader.close
begin
  writer.write 'x'
  writer.flush
rescue Errno::EPIPE => error
  puts error.message
end
