f <- function(n) f(n + 1)
tryCatch(f(1), error = function(e) cat(class(e)[1], "\n"))
print(Cstack_info()[["size"]])
