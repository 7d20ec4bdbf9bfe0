"""Prints "before" and ends: with an exit status, or by a signal."""

import os
import signal
import sys

print("before", flush=True)
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2]))
signal.signal(int(sys.argv[2]), signal.SIG_DFL) if int(sys.argv[2]) not in (9, 19) else None
os.kill(os.getpid(), int(sys.argv[2]))
signal.pause()
