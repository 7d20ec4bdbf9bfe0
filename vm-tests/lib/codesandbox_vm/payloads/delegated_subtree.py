"""Runs in a delegated unit: uses the subtree as the launcher does, prints what happened as JSON."""

import ctypes
import errno
import json
import os
import signal
import struct
from pathlib import Path

CLONE3 = 435
CLONE_INTO_CGROUP = 0x200000000
LEAF_BYTES = 64 << 20

libc = ctypes.CDLL(None, use_errno=True)


def own_group() -> str:
    return Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")


def clone_into(group: Path) -> int:
    """fork(2) whose child starts in `group`, clone3(2)."""
    directory = os.open(group, os.O_PATH | os.O_DIRECTORY)
    arguments = struct.pack("11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, directory)
    pid = libc.syscall(CLONE3, arguments, len(arguments))
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    os.close(directory)
    return pid


def limit(group: Path):
    (group / "memory.max").write_text(str(LEAF_BYTES))
    (group / "memory.swap.max").write_text("0")


def group_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def wait_signal(pid: int) -> int | None:
    """The signal that ended a child."""
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def hog():
    """Touches twice the leaf's memory and must not come to the end."""
    blocks = [bytearray(os.urandom(1 << 10) * 1024) for _ in range(2 * LEAF_BYTES >> 20)]
    os._exit(len(blocks) % 2)


def main():
    facts = {"own_group": own_group()}
    unit = Path("/sys/fs/cgroup" + facts["own_group"]).parent
    (unit / "cgroup.subtree_control").write_text("+cpu +io +memory +pids")
    leaf = unit / "leaf"
    leaf.mkdir()
    facts["leaf_controllers"] = (leaf / "cgroup.controllers").read_text().split()
    limit(leaf)
    facts["memory_max"] = int((leaf / "memory.max").read_text())

    moved = os.fork()
    if moved == 0:
        signal.pause()
    (leaf / "cgroup.procs").write_text(str(moved))
    facts["moved_into"] = group_of(moved)
    cloned = clone_into(leaf)
    if cloned == 0:
        signal.pause()
    facts["cloned_into"] = group_of(cloned)
    (leaf / "cgroup.kill").write_text("1")
    facts["killed_by_signals"] = [wait_signal(moved), wait_signal(cloned)]

    # A group that was killed once cannot be cloned into again: on kernel 6.12 the child is killed
    # at birth. (Moving a process in still works.) Hence a new group in its place.
    leaf.rmdir()
    leaf.mkdir()
    limit(leaf)
    eater = clone_into(leaf)
    if eater == 0:
        hog()
    facts["hog_killed_by"] = wait_signal(eater)
    events = dict(line.split() for line in (leaf / "memory.events").read_text().splitlines())
    facts["oom_kills"] = int(events["oom_kill"])
    leaf.rmdir()

    try:
        (unit.parent / "outside").mkdir()
    except OSError as error:
        facts["outside_errno"] = errno.errorcode[error.errno]
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
