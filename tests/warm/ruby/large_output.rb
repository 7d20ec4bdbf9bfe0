15_000.times { |number| puts "#{number} #{'x' * 50}" }
