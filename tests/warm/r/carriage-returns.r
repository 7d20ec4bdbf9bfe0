cat("a\n")
x <- 1
print(x)
