import os

print("lost, as it was buffered")
os._exit(7)
