source("part.r")
print(f(2))
