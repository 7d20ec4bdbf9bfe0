import os

print("in both")
if os.fork():
    os.wait()
