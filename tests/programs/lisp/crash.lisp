(error "crash on purpose")
