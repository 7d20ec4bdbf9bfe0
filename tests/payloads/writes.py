"""Tries to make a file in every directory that it is given, or in every directory of the system up
to a depth of three, and to open existing files for writing. Prints where it could."""

import json
import os
import sys


def can_make(directory):
    path = os.path.join(directory, "planted")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.unlink(path)
        return True
    except OSError:
        return False


def can_open(path):
    try:
        file = os.open(path, os.O_WRONLY)
        device = os.fstat(file).st_rdev
        os.close(file)
        return device != os.makedev(1, 3)  # what covers a file swallows everything
    except OSError:
        return False


directories = sys.argv[1:]
files = [os.path.join(directory, name) for directory in directories for name in os.listdir(directory)]
if not directories:
    for root, below, names in os.walk("/"):
        depth = root.count("/")
        directories.append(root)
        files += [os.path.join(root, name) for name in names[:20]]
        if depth >= 3 or root.startswith("/proc/"):
            below.clear()
    for line in open("/proc/self/mountinfo"):
        directories.append(line.split()[4])
print(json.dumps({
    "made": sorted({directory for directory in directories if can_make(directory)}),
    "opened": sorted({path for path in files if can_open(path)}),
}))
