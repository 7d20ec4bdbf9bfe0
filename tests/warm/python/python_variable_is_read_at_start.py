import sys

print(sys.flags.optimize, sys.path)
assert False, "never"
