def down(n)
  down(n + 1)
end

begin
  down(0)
rescue SystemStackError => error
  puts error.message
end
