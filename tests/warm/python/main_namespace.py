import sys

for name, value in vars().copy().items():
    print(name, value if isinstance(value, (str, dict, type(None))) else type(value))
print(sys.argv, getattr(sys, "orig_argv", None), sys.path, sys.flags)
print(sorted(sys.modules))
