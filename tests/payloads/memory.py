"""Takes so many MiB in a way that is named, tells when it has them, and keeps them until it is killed
or, with a third argument, ends at once."""

import ctypes
import mmap
import os
import signal
import sys

how, mib = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
PAGE = b"x" * (1 << 20)
SANDBOXED = os.getcwd() == "/workspace"


def heap(amount):
    block = bytearray(amount << 20)
    block[::4096] = b"x" * len(block[::4096])
    return block


def shared(amount):
    block = mmap.mmap(-1, amount << 20)
    for _ in range(amount):
        block.write(PAGE)
    return block


def forks(amount):
    """Four processes, none of which has more than a quarter."""
    read, write = os.pipe()
    for _ in range(4):
        if os.fork() == 0:
            kept = heap(amount // 4)
            os.write(write, b"x")
            signal.pause()
            return kept
    for _ in range(4):
        os.read(read, 1)


def files(directory, amount):
    for index in range(amount // 16):
        with open(f"{directory}/part{index}", "wb") as file:
            for _ in range(16):
                file.write(PAGE)


def unlinked(amount):
    kept = []
    for index in range(amount // 16):
        kept.append(open("part", "wb"))
        os.unlink("part")
        for _ in range(16):
            kept[-1].write(PAGE)
        kept[-1].flush()
    return kept


def memfd(amount):
    """Written, never mapped: no process has it in its resident set."""
    kept = []
    for _ in range(amount // 16):
        kept.append(os.memfd_create("x"))
        for _ in range(16):
            os.write(kept[-1], PAGE)


def sysv(amount):
    """Filled and detached: no process maps it any more."""
    libc.shmat.restype = ctypes.c_void_p
    for _ in range(amount // 16):
        segment = libc.shmget(0, 16 << 20, 0o1600)
        address = libc.shmat(segment, None, 0)
        if segment == -1 or address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "shm")
        ctypes.memset(address, 120, 16 << 20)
        libc.shmdt(ctypes.c_void_p(address))


def tables(amount):
    """Reads a reserve that has no memory of its own: each 2 MiB of it cost a page of page tables."""
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    size = amount * 256 * (2 << 20)
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), 15)  # no huge pages
    view = (ctypes.c_char * size).from_address(address)
    for offset in range(0, size, 2 << 20):
        view[offset]


WAYS = {
    "heap": heap,
    "shared": shared,
    "forks": forks,
    "tmp": lambda amount: files("/tmp" if SANDBOXED else ".", amount),
    "shm": lambda amount: files("/dev/shm" if SANDBOXED else ".", amount),
    "unlinked": unlinked,
    "memfd": memfd,
    "sysv": sysv,
    "tables": tables,
}

print("before", flush=True)
kept = WAYS[how](mib)
print("has it", flush=True)
if len(sys.argv) < 4:
    signal.pause()
if how == "forks":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
