"""Tries to change one store path and to get at another; prints as JSON what came of each try.

usage: tries_the_store.py PATH OTHER, where OTHER holds bin/run and secret. Whatever succeeds says so
by null and is undone. As root outside of a sandbox, with PATH mounted on itself, all of it succeeds.
"""

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys

PATH, OTHER = sys.argv[1:3]
MS_REMOUNT, MS_BIND = 32, 4096
libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def a_file():
    for directory, _, names in os.walk(PATH):
        for name in sorted(names):
            file = os.path.join(directory, name)
            if not os.path.islink(file) and not os.access(file, os.X_OK):
                return file
    raise SystemExit(f"no file in {PATH}")


FILE = a_file()
MODE = os.stat(FILE).st_mode & 0o7777


def remount():
    checked(libc.mount(None, PATH.encode(), None, MS_REMOUNT | MS_BIND, None))


def create(path):
    open(path, "x").close()
    os.unlink(path)


def make(path):
    os.mkdir(path)
    os.rmdir(path)


def rename():
    os.rename(FILE, FILE + ".away")
    os.rename(FILE + ".away", FILE)


def change_mode():
    os.chmod(FILE, MODE | 0o200)
    os.chmod(FILE, MODE)


def change_owner():
    status = os.stat(FILE)
    os.chown(FILE, 1, 1)
    os.chown(FILE, status.st_uid, status.st_gid)


def mount_over():
    checked(libc.mount(b"none", PATH.encode(), b"tmpfs", 0, None))
    checked(libc.umount2(PATH.encode(), 0))


def read_link(link):
    os.symlink(f"{OTHER}/secret", link)
    try:
        open(link).close()
    finally:
        os.unlink(link)


def run_other():
    subprocess.run([f"{OTHER}/bin/run"], check=True, stdout=subprocess.DEVNULL)


def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/codesandbox/api.sock")


# First the mount that everything else would need.
TRIES = {
    "remount": remount,
    "write": lambda: open(FILE, "r+b").close(),
    "create": lambda: create(f"{PATH}/planted"),
    "add a path": lambda: make("/nix/store/planted"),
    "rename": rename,
    "chmod": change_mode,
    "chown": change_owner,
    "link": lambda: (os.link(FILE, FILE + ".link"), os.unlink(FILE + ".link")),
    "mount over": mount_over,
    "list another path": lambda: os.listdir(OTHER),
    "read another path": lambda: open(f"{OTHER}/secret").close(),
    "read another path by a link": lambda: read_link(f"{os.environ.get('TMPDIR', '/tmp')}/link"),
    "read another path by process 1": lambda: open(f"/proc/1/root{OTHER}/secret").close(),
    "read the password file by process 1": lambda: open("/proc/1/root/etc/shadow").close(),
    "run another path": run_other,
    "internet socket": lambda: socket.socket(socket.AF_INET).close(),
    "internet socket 6": lambda: socket.socket(socket.AF_INET6).close(),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "socket of the service": connect,
    "unmount": lambda: checked(libc.umount2(PATH.encode(), 2)),
}


def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return None


print(json.dumps({name: attempt(action) for name, action in TRIES.items()}))
