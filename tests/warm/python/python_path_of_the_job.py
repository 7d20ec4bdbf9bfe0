import sys

print(sys.path)
import json

print(json.__file__)
