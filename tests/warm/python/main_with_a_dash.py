import sys

print(__file__, sys.argv, sys.path[0], getattr(sys, "orig_argv", None))
1 / 0
