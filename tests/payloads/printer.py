"""Writes so many bytes, all of which differ from their neighbours, to a descriptor."""

import os
import sys

stream, left = int(sys.argv[1]), int(sys.argv[2])
pattern = bytes(range(256)) * 256
written = 0
while left:
    start = written % 256
    count = os.write(stream, pattern[start:start + min(left, 60000)])
    written += count
    left -= count
