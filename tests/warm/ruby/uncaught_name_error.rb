value_of_mine = 1
puts value_of_min
