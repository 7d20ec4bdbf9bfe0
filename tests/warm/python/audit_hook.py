import sys

sys.addaudithook(lambda event, arguments: print(event) if event.startswith(("os.", "compile")) else None)
compile("1", "text", "eval")
