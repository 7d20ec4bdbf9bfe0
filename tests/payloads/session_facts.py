"""Prints what a program finds around itself, as one object."""

import ctypes
import errno
import fcntl
import glob
import json
import os
import socket
import sys
import termios

libc = ctypes.CDLL(None, use_errno=True)


def tried(call):
    """Nothing where it works, and else the name of the error."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]


def status():
    lines = (line.split(":", 1) for line in open("/proc/self/status"))
    return {name: value.strip() for name, value in lines}


def descriptors():
    held = []
    for number in range(1024):
        try:
            os.fstat(number)
            held.append(number)
        except OSError:
            pass
    return held


def called(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else None


def readable(path):
    try:
        return bool(open(path, "rb").read(1))
    except OSError:
        return False


def push():
    """Types for somebody else: what the next program that reads this terminal gets."""
    try:
        for byte in b"pushed\n":
            fcntl.ioctl(0, termios.TIOCSTI, bytes([byte]))
    except OSError as error:
        return errno.errorcode[error.errno]


held = descriptors()
facts = status()
print(json.dumps({
    "descriptors": held,
    "ids": [*os.getresuid(), *os.getresgid()],
    "groups": os.getgroups(),
    "capabilities": [facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "no_new_privileges": facts["NoNewPrivs"],
    "seccomp": facts["Seccomp"],
    "interfaces": sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line),
    "processes": sorted(open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()),
    "terminals": sorted(name for name in os.listdir("/dev/pts") if name.isdigit()) if os.path.isdir("/dev/pts") else [],
    "push": push() if os.isatty(0) else "no terminal",
    "mount": called(165, b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": called(272, 0x10000000),
    "ptrace": called(101, 16, 1, 0, 0),
    "bpf": called(321, 0, None, 0),
    "keyctl": called(250, 0, -3, 0),
    "io_uring": called(425, 1, None),
    "perf": called(298, None, 0, -1, -1, 0),
    "kcore": readable("/proc/kcore"),
    "kmsg": readable("/dev/kmsg"),
    "sysrq": tried(lambda: open("/proc/sysrq-trigger", "w")),
    "sysctl": tried(lambda: open("/proc/sys/kernel/core_pattern", "w").write("x")),
    "root": sorted(os.listdir("/")),
    "etc": tried(lambda: open("/etc/planted", "w")),
    "runtime": tried(lambda: open("/runtime/planted", "w")),
    "stray": sorted(set(glob.glob("/layers*") + glob.glob("/upper*") + glob.glob("/work-*") + glob.glob("/workspace/../layers*"))),
    "stores": [line.split()[4] for line in open("/proc/self/mountinfo") if " - tmpfs " in line],
    "outside": tried(lambda: socket.create_connection(("198.51.100.1", 80), 0.5)),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "packet": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)),
    "device": tried(lambda: os.mknod("device", 0o20666, os.makedev(1, 3))),
    "setuid": tried(lambda: os.setuid(0)),
    "chroot": tried(lambda: os.chroot(".")),
    "control": sys.argv[1:],
}))
