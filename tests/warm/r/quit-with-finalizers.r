.Last <- function() cat("last\n")
reg.finalizer(globalenv(), function(e) cat("finalizer\n"), onexit = TRUE)
cat("end\n")
