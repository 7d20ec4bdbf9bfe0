# R has no threads: four processes.
parts <- parallel::mclapply(0:3, function(index) sum(25 * index + 0:24), mc.cores = 4)
cat("sum ", sum(unlist(parts)), "\n", sep = "")
