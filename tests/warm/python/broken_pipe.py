import os
import sys

reader, writer = os.pipe()
os.close(reader)
try:
    os.write(writer, b"x")
except BrokenPipeError as error:
    print(error)
os.dup2(writer, 1)
print("x" * 100000)
