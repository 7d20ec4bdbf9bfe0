x <- "ä€😀"
print(nchar(x))
print(x)
cat(x, "\n")
print(Sys.getlocale("LC_CTYPE"))
