import sys

print(sys.argv, getattr(sys, "orig_argv", None), sys.executable)
