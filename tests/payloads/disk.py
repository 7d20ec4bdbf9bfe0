"""Fills the disk: one file of so many bytes, several of 4 MiB that have so many together, or so many
empty files; in the directory that is named."""

import sys

kind, amount, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
print("before", flush=True)
if kind == "file":
    with open(f"{directory}/large", "wb", buffering=0) as file:
        left = amount
        while left > 0:
            left -= file.write(b"x" * min(left, 1 << 16))
elif kind == "bytes":
    for index in range(amount >> 22):
        with open(f"{directory}/part{index}", "wb", buffering=0) as file:
            left = 1 << 22
            while left > 0:
                left -= file.write(b"x" * min(left, 1 << 16))
else:
    for index in range(amount):
        open(f"{directory}/{index}", "w").close()
print("has it", flush=True)
