"""Tries what a service without privilege may not do; prints as JSON what came of each, null for success."""

import ctypes
import errno
import json
import mmap
import os
import socket

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def attempt(action):
    # In a child, as some of these change who tries.
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            action()
            os.write(write, b"null")
        except OSError as error:
            os.write(write, json.dumps(errno.errorcode.get(error.errno, str(error))).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    return json.loads(os.read(read, 100) or b'"killed"')


TRIES = {
    "read /etc/shadow": lambda: open("/etc/shadow").close(),
    "write /etc": lambda: open("/etc/planted", "w").close(),
    "write /run/codesandbox": lambda: open("/run/codesandbox/planted", "w").close(),
    "user namespace": lambda: checked(libc.unshare(CLONE_NEWUSER)),
    "network namespace": lambda: checked(libc.unshare(CLONE_NEWNET)),
    "become root": lambda: os.setuid(0),
    "become another": lambda: os.setuid(1),
    "change root": lambda: os.chroot("/"),
    "mount": lambda: checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
    "internet socket": lambda: socket.socket(socket.AF_INET).close(),
    "internet socket 6": lambda: socket.socket(socket.AF_INET6).close(),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "look into process 1": lambda: os.readlink("/proc/1/exe"),
    "write and execute": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
}
print(json.dumps({name: attempt(action) for name, action in TRIES.items()}))
