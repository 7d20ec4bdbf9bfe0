error("crash on purpose")
