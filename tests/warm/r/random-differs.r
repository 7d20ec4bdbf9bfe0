cat(runif(2), "\n")
