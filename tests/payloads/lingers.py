"""Leaves something behind and ends, or turns on those above it; in the way that is named."""

import os
import signal
import sys
import time

how = sys.argv[1]
print("before", flush=True)


def stay():
    with open("pid", "w") as file:
        file.write(str(os.getpid()))
    while True:
        signal.pause()


if how == "session":
    if os.fork() == 0:
        os.setsid()
        stay()
elif how == "daemon":
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 65):
            if number not in (9, 19, 32, 33):
                signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            for descriptor in range(3):
                os.close(descriptor)
            stay()
        os._exit(0)
elif how == "output":
    # Keeps the streams open, and would go on to print.
    if os.fork() == 0:
        os.setsid()
        stay()
elif how == "closed":
    os.close(1)
    os.close(2)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    os._exit(0)
elif how == "zombies":
    for _ in range(30):
        if os.fork() == 0:
            os._exit(0)
    while sum(" Z " in open(f"/proc/{pid}/stat").read() for pid in os.listdir("/proc") if pid.isdigit()) < 30:
        pass
    print("30 zombies", flush=True)
elif how == "stop":
    # Stops its parent; where that is out of reach, its number is 0: the own process group.
    os.kill(os.getppid(), signal.SIGSTOP)
    print("after", flush=True)
elif how == "everyone":
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
        for pid in (-1, 1):
            try:
                os.kill(pid, number)
                print("sent", flush=True)
            except OSError:
                pass
    print("after", flush=True)
elif how == "trap":
    # Ends at once, and its orphans fork for as long as they live.
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                if os.fork() == 0:
                    os.setsid()
            except OSError:
                pass
        os._exit(0)
os._exit(0)
