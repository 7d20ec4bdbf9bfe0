cat("before\n")
tools::pskill(Sys.getpid(), 15)
Sys.sleep(5)
