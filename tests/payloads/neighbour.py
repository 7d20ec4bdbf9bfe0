"""Two programs that want to meet: "hold" makes something of every kind and waits, "probe" looks for it.

The probe prints an object: kind -> whether it found the other's. With "both", one process does
both, which is how it goes where nothing is between them. The second argument is a word that names
what is made."""

import ctypes
import fcntl
import glob
import json
import os
import signal
import socket
import struct
import sys
import time

mode, word = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
KEY = 0x5EC0
MARK = word.encode()
# A file of the runtime that both can read, and that no other test is likely to choose.
SHARED = sorted(glob.glob("/usr/lib/python3.11/*.py"))[int(word[1:]) % 100]


def hold():
    kept = []
    segment = libc.shmget(KEY, 4096, 0o1666)
    ctypes.memmove(libc.shmat(segment, None, 0), MARK, len(MARK))
    libc.semget(KEY, 1, 0o1666)
    queue = libc.msgget(KEY, 0o1666)
    libc.msgsnd(queue, struct.pack("q", 1) + MARK, len(MARK), 0)
    kept.append(libc.mq_open(f"/{word}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None))
    for directory in ("/dev/shm", "/tmp", "/var/tmp"):
        try:
            with open(f"{directory}/{word}", "w") as file:
                file.write(word)
            os.chmod(f"{directory}/{word}", 0o666)
        except OSError:
            pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(b"\0" + MARK)
    listener.listen()
    kept.append(listener)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(b"\0" + MARK + b".d")
    kept.append(datagrams)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            inet = socket.socket(family, socket.SOCK_STREAM)
            inet.bind((address, 5999))
            inet.listen()
            kept.append(inet)
        except OSError:
            pass
    libc.syscall(248, b"user", MARK, b"secret", 6, -4)  # add_key to the user's keyring
    shared = open(SHARED, "rb")
    try:
        fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass
    try:
        fcntl.fcntl(shared, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 77, 1, 0))
    except OSError:
        pass
    kept.append(shared)
    return kept


def seen_in_proc():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        if int(pid) != os.getpid() and b"hold" in words and MARK in words:
            return True
    return False


def connects(family, address):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.connect(address)
        return True
    except OSError:
        return False


def reads(path):
    try:
        return word in open(path).read()
    except OSError:
        return False


def sends():
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"hi", b"\0" + MARK + b".d")
        return True
    except OSError:
        return False


def flocked():
    try:
        fcntl.flock(open(SHARED, "rb"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True


def record_locked():
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 77, 1, 0)
    try:
        answer = fcntl.fcntl(open(SHARED, "rb"), fcntl.F_GETLK, asked)
    except OSError:
        return False
    return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK


def probe():
    return {
        "proc": seen_in_proc(),
        "shared memory": libc.shmget(KEY, 0, 0) != -1,
        "semaphore": libc.semget(KEY, 0, 0) != -1,
        "message queue": libc.msgget(KEY, 0) != -1,
        "listed segments": len(open("/proc/sysvipc/shm").readlines()) > 1,
        "named queue": libc.mq_open(f"/{word}".encode(), os.O_RDWR, 0, None) != -1,
        "dev/shm": reads(f"/dev/shm/{word}"),
        "tmp": reads(f"/tmp/{word}"),
        "abstract socket": connects(socket.AF_UNIX, b"\0" + MARK),
        "abstract datagram": sends(),
        "listed sockets": reads("/proc/net/unix"),
        "loopback": connects(socket.AF_INET, ("127.0.0.1", 5999)),
        "loopback 6": connects(socket.AF_INET6, ("::1", 5999)),
        "key": libc.syscall(250, 10, -4, b"user", MARK, 0) != -1,
        "flock": flocked(),
        "record lock": record_locked(),
    }


if mode == "hold":
    kept = hold()
    print("held", flush=True)
    while True:
        signal.pause()
elif mode == "probe":
    print(json.dumps(probe()))
elif mode == "kill":
    for pid in [-1, *range(1, 400)]:
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    print("after")
else:
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        # Under a command line of its own.
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-I", sys.argv[0], "hold", word])
    os.read(read, 5)
    print(json.dumps(probe()))
    for path in (f"/dev/shm/{word}", f"/tmp/{word}", f"/var/tmp/{word}"):
        os.unlink(path)
    os.kill(holder, signal.SIGKILL)
