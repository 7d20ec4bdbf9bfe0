"""Spins: so many processes, for so many seconds each (0: for ever). A third argument says how their
parent treats them: "wait" (the default), "ignore" (the kernel reaps them unseen), "orphans" (they
are given away), "relay" (one short one after another, which the kernel reaps unseen)."""

import os
import signal
import sys
import time

processes, seconds = int(sys.argv[1]), float(sys.argv[2])
how = sys.argv[3] if len(sys.argv) > 3 else "wait"


def spin(length):
    end = time.process_time() + length
    while length == 0 or time.process_time() < end:
        pass


print("before", flush=True)
if processes == 1 and how == "wait":
    spin(seconds)
    sys.exit()
if how in ("ignore", "relay"):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if how == "relay":
    read, write = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            spin(seconds)
            os._exit(0)
        try:
            os.wait()
        except ChildProcessError:
            pass
    sys.exit()
for _ in range(processes):
    if os.fork() == 0:
        if how == "orphans":
            if os.fork() != 0:
                os._exit(0)
            os.setsid()
        spin(seconds)
        os._exit(0)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
if how == "orphans":
    signal.pause()
