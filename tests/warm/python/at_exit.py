import atexit


def failing():
    raise SystemExit("in a handler")


atexit.register(lambda: print("first registered", globals().get("__file__"), "__cached__" in globals()))
atexit.register(print, "handler")
print("body")
