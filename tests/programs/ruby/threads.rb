threads = (0...4).map do |index|
  Thread.new { (25 * index...25 * index + 25).sum }
end
puts "sum #{threads.sum(&:value)}"
