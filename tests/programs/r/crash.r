stop("crash on purpose")
