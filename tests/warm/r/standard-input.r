x <- readLines(file("stdin"))
print(x)
print(isatty(stdin()))
