"""Has so many processes or threads besides itself at one time, and tells how many it got."""

import os
import signal
import sys
import threading

kind, wanted = sys.argv[1], int(sys.argv[2])
read, write = os.pipe()
got = 0
try:
    for _ in range(wanted):
        if kind == "threads":
            threading.Thread(target=os.read, args=(read, 1), daemon=True).start()
        elif os.fork() == 0:
            signal.pause()
        got += 1
except (OSError, RuntimeError):
    pass
print(got, flush=True)
if len(sys.argv) > 3:
    # Long enough to be seen by whoever looks now and then.
    threading.Event().wait(float(sys.argv[3]))
os._exit(0 if got == wanted else 1)
