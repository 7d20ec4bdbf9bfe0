print(unlist(parallel::mclapply(1:3, function(i) i^2, mc.cores = 2)))
