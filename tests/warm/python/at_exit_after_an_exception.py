import atexit

atexit.register(lambda: print("handler", globals().get("__file__")))
raise ValueError("text")
