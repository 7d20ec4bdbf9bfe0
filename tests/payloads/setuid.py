"""Starts set-user-id programs and tells who they were. Prints an object: path -> effective user."""

import json
import os
import subprocess
import sys


def effective(pid):
    """Popen returns when the program has been executed."""
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return next(int(line.split()[2]) for line in lines if line.startswith("Uid:"))


found = {}
for path in sys.argv[1:]:
    held, write = os.pipe()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([path], stdin=held, stdout=quiet, stderr=quiet)
    found[path] = effective(process.pid)
    try:
        process.kill()
    except PermissionError:
        pass  # it is root's
    os.close(write)
print(json.dumps(found))
