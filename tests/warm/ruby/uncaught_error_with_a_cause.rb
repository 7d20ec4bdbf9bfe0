begin
  {}.fetch(:missing)
rescue KeyError
  raise ArgumentError, "second\nline"
end
