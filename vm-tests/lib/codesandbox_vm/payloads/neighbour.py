"""Two programs that want to meet: "hold" makes something of every kind and waits, "probe" looks for it.

usage: neighbour.py hold|probe|both|kill WORD

The probe prints an object: what it looked for -> whether it found the other's. With "both", one
process does both, which is how it goes where nothing is between them; it needs root. "kill" sends
signals to all that it can name. Locks on files of the runtime are left out: they are not promised.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys

MODE, WORD = sys.argv[1:3]
MARK = WORD.encode()
KEY, PORT = 0x5EC1, 5998
ADD_KEY, KEYCTL = (217, 219) if os.uname().machine == "aarch64" else (248, 250)
USER_KEYRING, SEARCH = -4, 10
DIRECTORIES = ("/dev/shm", "/tmp", "/var/tmp", "/run")
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def tolerant(action):
    try:
        return action()
    except OSError:
        return None


def plant(path):
    with open(path, "w") as file:
        file.write(WORD)


def listen(family, address):
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    return listener


def hold():
    segment = libc.shmget(KEY, 4096, 0o1666)
    if segment >= 0:
        ctypes.memmove(libc.shmat(segment, None, 0), MARK, len(MARK))
    libc.semget(KEY, 1, 0o1666)
    queue = libc.msgget(KEY, 0o1666)
    libc.msgsnd(queue, struct.pack("q", 1) + MARK, len(MARK), 0)
    libc.mq_open(b"/" + MARK, os.O_CREAT | os.O_RDWR, 0o666, None)
    libc.syscall(ADD_KEY, b"user", MARK, b"secret", 6, USER_KEYRING)
    for directory in DIRECTORIES:
        tolerant(lambda: plant(f"{directory}/{WORD}"))
    wanted = ((socket.AF_UNIX, b"\0" + MARK), (socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_INET6, ("::1", PORT)))
    return [tolerant(lambda: listen(family, address)) for family, address in wanted]


def connects(family, address):
    def connect():
        with socket.socket(family) as client:
            client.connect(address)
        return True

    return bool(tolerant(connect))


def contains(path):
    def look():
        with open(path) as file:
            return WORD in file.read()

    return bool(tolerant(look))


def listed(path):
    """Lines below the heading."""
    with open(path) as file:
        return len(file.readlines()) > 1


def seen_in_proc():
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]
    return any(contains(f"/proc/{pid}/cmdline") for pid in others)


def probe():
    found = {f"file in {directory}": contains(f"{directory}/{WORD}") for directory in DIRECTORIES}
    return found | {
        "process": seen_in_proc(),
        "shared memory": libc.shmget(KEY, 0, 0) != -1,
        "listed shared memory": listed("/proc/sysvipc/shm"),
        "semaphore": libc.semget(KEY, 0, 0) != -1,
        "message queue": libc.msgget(KEY, 0) != -1,
        "named queue": libc.mq_open(b"/" + MARK, os.O_RDWR, 0, None) != -1,
        "key": libc.syscall(KEYCTL, SEARCH, USER_KEYRING, b"user", MARK, 0) != -1,
        "abstract socket": connects(socket.AF_UNIX, b"\0" + MARK),
        "listed socket": contains("/proc/net/unix"),
        "loopback": connects(socket.AF_INET, ("127.0.0.1", PORT)),
        "loopback 6": connects(socket.AF_INET6, ("::1", PORT)),
    }


def clean_up():
    for directory in DIRECTORIES:
        tolerant(lambda: os.unlink(f"{directory}/{WORD}"))
    libc.mq_unlink(b"/" + MARK)
    libc.shmctl(libc.shmget(KEY, 0, 0), 0, None)
    libc.msgctl(libc.msgget(KEY, 0), 0, None)
    libc.semctl(libc.semget(KEY, 0, 0), 0, 0)


def kill_all():
    # Not -1: that is everybody but oneself, and outside of a sandbox it is the machine.
    for pid in range(2, 1 << 12):
        if pid != os.getpid():
            tolerant(lambda: os.kill(pid, signal.SIGKILL))


if MODE == "hold":
    kept = hold()
    print("held", flush=True)
    signal.pause()
elif MODE == "probe":
    print(json.dumps(probe()))
elif MODE == "kill":
    kill_all()
    print("after")
else:
    read, write = os.pipe()
    if (holder := os.fork()) == 0:
        # Under a command line of its own.
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-I", "-c", sys.orig_argv[sys.orig_argv.index("-c") + 1], "hold", WORD])
    os.read(read, 5)
    found = probe()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    clean_up()
    print(json.dumps(found))
