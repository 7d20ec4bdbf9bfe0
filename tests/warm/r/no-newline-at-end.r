cat("a\n")
print("b")