import sys

print(ascii(sys.stdin.errors))
sys.stdin.reconfigure(encoding="ascii")
print(sys.stdin.read())
