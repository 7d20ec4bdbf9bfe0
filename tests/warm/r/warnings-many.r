f <- function(i) warning(i)
for (i in 1:60) f(i)
