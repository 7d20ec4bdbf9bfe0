x <- readline("name? ")
print(x)
print(readLines(stdin(), 1))
