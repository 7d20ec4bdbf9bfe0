value_of_mine = 1
print(value_of_min)
