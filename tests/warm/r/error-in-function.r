f <- function(x) g(x)
g <- function(x) log(-1, "a")
f(1)
