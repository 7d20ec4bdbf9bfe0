import sys

for number in range(15000):
    print(number, "x" * 50)
print("end", file=sys.stderr)
