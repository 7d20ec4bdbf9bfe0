cat("not closed"
