raise RuntimeError("crash on purpose")
