message("to stderr")
cat("to stdout\n")
write("also stderr", stderr())
print(warning("now"))
