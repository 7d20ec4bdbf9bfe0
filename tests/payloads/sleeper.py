"""Sleeps for ever; with an argument, it answers every signal that asks it to end, and goes on."""

import os
import signal
import sys

if len(sys.argv) > 1:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, lambda *_: os.write(1, b"still here\n"))
print("before", flush=True)
while True:
    signal.pause()
