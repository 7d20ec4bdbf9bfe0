for block in function() return io.read(65536) end do
  io.write(block)
end
