import os
import posix

for name, value in os.environ.items():
    print(name, value)
print(posix.environ == dict(os.environb))
print(list(posix.environ))
os.system("env; test -z \"$PYTHONPATH\" && echo none")
os.environ["LATER"] = "set"
del os.environ["EMPTY"]
os.system("env")
