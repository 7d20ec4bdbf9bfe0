import os
import sys

print(__file__, sys.path, sys.argv, os.getcwd())
import beside

print(beside.__file__)
try:
    import above
except ImportError as error:
    print(error)
raise ValueError("text")
