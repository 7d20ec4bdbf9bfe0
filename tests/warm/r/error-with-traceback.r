options(error = function() { print(sys.calls()); quit(status = 3) })
f <- function(x) stop("deep")
f(1)
