"""Tells in one line what it finds of programs before it, and leaves all that a program can."""

import ctypes
import hashlib
import json
import os
import re
import socket
import sys

PLACES = ["/workspace", "/tmp", "/dev/shm"]
KEY, CREATE = 42, 0o1000
PLANTED = [f"planted {number}" for number in range(50)]
libc = ctypes.CDLL(None, use_errno=True)


def errno_of(result: int) -> int:
    return ctypes.get_errno() if result < 0 else 0


def objects(flags: int) -> list[int]:
    """System V: a segment, a semaphore, a queue; 0 for each that there is."""
    return [errno_of(libc.shmget(KEY, 4096, flags)), errno_of(libc.semget(KEY, 1, flags)), errno_of(libc.msgget(KEY, flags))]


def is_free(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind("\0" + name)
        except OSError:
            return False
    return True


def mounts() -> str:
    """What is mounted where and how, without numbers, which count upwards on every host."""
    lines = [re.sub(r"^\d+ \d+ \d+:\d+ ", "", line) for line in open("/proc/self/mountinfo")]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:8]


def look() -> dict:
    disk = os.statvfs("/workspace")
    return {
        "pid": os.getpid(),
        "files": [sorted(set(os.listdir(place)) - {"main.py"}) for place in PLACES],
        "modes": [oct(os.stat(place).st_mode & 0o7777) for place in PLACES],
        "objects": objects(0o600),
        "processes": sum(entry.isdigit() for entry in os.listdir("/proc")),
        "sockets": len(open("/proc/net/unix").readlines()) - 1,
        "taken": sum(not is_free(name) for name in ["mark", *PLANTED]),
        "free": [disk.f_bfree, disk.f_ffree],
        "mounts": mounts(),
    }


def leave() -> None:
    for place in PLACES:
        with open(f"{place}/left", "wb") as file:
            file.write(bytes(100_000))
        os.makedirs(f"{place}/deep/er", mode=0o000, exist_ok=True)
        os.chmod(place, 0o711)
    objects(0o600 | CREATE)
    held = socket.socket(socket.AF_UNIX)
    held.bind("\0mark")
    if os.fork() == 0:
        os.setsid()
        os.close(1)
        os.close(2)
        while True:
            os.read(os.pipe()[0], 1)


def hold() -> None:
    """Open files that are on their way to nobody: the kernel lets go of them some time after the last process."""
    ours, theirs = socket.socketpair()
    held = [os.open(f"{place}/left", os.O_RDONLY) for place in PLACES]
    socket.send_fds(ours, [b"x"], [*held, ours.fileno(), theirs.fileno()])


def plant() -> None:
    """The same of sockets with names, which hold nothing else."""
    ours, theirs = socket.socketpair()
    planted = [socket.socket(socket.AF_UNIX) for _ in PLANTED]
    for name, one in zip(PLANTED, planted):
        one.bind("\0" + name)
        one.listen()
    socket.send_fds(ours, [b"x"], [one.fileno() for one in [*planted, ours, theirs]])


command = sys.stdin.read()
found = look()
leave()
if command == "hold":
    hold()
if command == "plant":
    plant()
if command == "again":
    found = look()
print(os.readlink("/proc/self/ns/pid"), json.dumps(found, separators=(",", ":")), flush=True)
while command == "spin":
    pass
