cat("before\n")
stop("no such thing")
cat("never\n")
