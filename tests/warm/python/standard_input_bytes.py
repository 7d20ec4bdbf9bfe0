import os
import sys

print(os.read(0, 4))
print(sys.stdin.buffer.read(3))
print(sys.stdin.buffer.readline())
print(sys.stdin.read())
