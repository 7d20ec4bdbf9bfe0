"""Prints as a JSON list what is left in this machine of sandboxes and of failures."""

import contextlib
import glob
import json
import os
import re
import subprocess

RUNTIME = "/run/codesandbox"
# Locks are files that stay, by their nature: who removes one takes it from whoever opened it.
LOCK = re.compile(r"ids-\d+\.lock$")


def groups():
    # Those of systemd's own sessions are called so too.
    for pattern in ("**/leaf-*", "codesandbox.slice/**/session-*"):
        for path in glob.iglob(f"/sys/fs/cgroup/{pattern}", recursive=True):
            yield f"cgroup {path}"


def processes():
    """Whoever has an id that only sandboxes have, or does not see PID 1."""
    ranges = []
    with open("/etc/subuid") as subuid:
        for line in subuid:
            first, length = line.strip().split(":")[1:]
            ranges.append(range(int(first), int(first) + int(length)))
    ours = os.readlink("/proc/1/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # It may end while it is looked at, and then it is not left.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            uid = os.stat(f"/proc/{pid}").st_uid
            apart = os.readlink(f"/proc/{pid}/ns/pid") != ours
            if apart or any(uid in each for each in ranges):
                with open(f"/proc/{pid}/cmdline") as command:
                    yield f"process {pid} of user {uid}: {command.read()!r}"


def mounts():
    with open("/proc/1/mountinfo") as lines:
        for line in lines:
            target, kind = line.split()[4], line.split(" - ")[1].split()[0]
            # nsfs: a namespace that is held by a mount after its last process has gone.
            if target.startswith((RUNTIME, "/workspace")) or kind == "nsfs":
                yield f"mount {target} ({kind})"


def files():
    for directory in glob.iglob(f"{RUNTIME}*"):
        for place, _, names in os.walk(directory):
            yield from (f"file {place}/{name}" for name in names if not LOCK.match(name))


def units():
    command = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]
    for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        yield f"failed unit {line}"


print(json.dumps([what for source in (groups, processes, mounts, files, units) for what in source()]))
