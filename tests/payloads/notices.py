"""Asks to be told when anybody reads or changes a directory that is shared by all, then waits; or
touches it. Modes: "wait", "touch", "both"."""

import fcntl
import os
import signal
import sys

DIRECTORY = "/usr/share/zoneinfo" if os.path.isdir("/usr/share/zoneinfo") else "/usr/share"
EVERYTHING = 0x8000003F


def touch():
    name = next(entry.path for entry in os.scandir(DIRECTORY) if entry.is_file())
    open(name, "rb").read()


def ask():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    directory = os.open(DIRECTORY, os.O_RDONLY)
    fcntl.fcntl(directory, fcntl.F_NOTIFY, EVERYTHING)
    return directory


if sys.argv[1] == "touch":
    touch()
    print("touched")
    sys.exit()
try:
    kept = ask()
except OSError as error:
    print("refused", error.strerror, flush=True)
    sys.exit()
print("waiting", flush=True)
if sys.argv[1] == "both":
    if os.fork() == 0:
        touch()
        os._exit(0)
if signal.sigtimedwait([signal.SIGIO], 3):
    print("noticed", flush=True)
