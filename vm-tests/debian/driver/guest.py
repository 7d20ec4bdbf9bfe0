"""The guest as files: built once, cached under a hash of everything that determines it."""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .architecture import Architecture

BUILDER = Path(__file__).resolve().parent.parent / "image"
BUILD_SECONDS = 1800
# sysexits.h EX_UNAVAILABLE: how host-packages.sh says that this host cannot have the tools.
EXIT_UNAVAILABLE = 69


class Unavailable(Exception):
    """This host cannot run the guest; the text says why."""


@dataclass(frozen=True)
class Guest:
    """A guest that is there: a directory with kernel, initrd and root.ext4."""

    architecture: Architecture
    files: Path


def provide(architecture: Architecture) -> Guest:
    """The guest of an architecture, built when the cache has none."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the guest is built on x86_64, this machine is {platform.machine()}")
    _install_host_packages(architecture)
    cache = Path(os.environ.get("CODESANDBOX_VM_CACHE", "/var/cache/codesandbox/vm"))
    key = digest(architecture.name, *sorted(path for path in BUILDER.rglob("*") if path.is_file()))
    guest = Guest(architecture, cache / key)
    with locked(cache):
        if not guest.files.exists():
            _build(guest)
    return guest


def digest(*parts: Path | str) -> str:
    """A short hash of texts and of files, names and modes included."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            name, mode = part.relative_to(BUILDER.parent), part.stat().st_mode
            state.update(f"{name} {mode:o} {part.stat().st_size}\n".encode() + part.read_bytes())
        else:
            state.update(f"{len(part)} {part}\n".encode())
    return state.hexdigest()[:16]


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """One process at a time fills the cache; the lock goes with its holder."""
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_host_packages(architecture: Architecture) -> None:
    step = subprocess.run([BUILDER / "host-packages.sh", architecture.emulator], stderr=subprocess.PIPE, text=True,
                          timeout=BUILD_SECONDS)
    if step.returncode == EXIT_UNAVAILABLE:
        raise Unavailable(step.stderr.strip().splitlines()[-1])
    if step.returncode != 0:
        raise RuntimeError(f"installing the host's packages failed:\n{step.stderr}")


def _build(guest: Guest) -> None:
    if os.geteuid() != 0:
        raise Unavailable("not root, so the guest cannot be built")
    print(f"vm-tests: building the guest for {guest.architecture.name}, once", file=sys.stderr)
    # Renamed only when complete, so that a build cut short is never taken for a guest.
    scratch = Path(tempfile.mkdtemp(prefix="building.", dir=guest.files.parent))
    try:
        step = subprocess.run([BUILDER / "build-guest.sh", guest.architecture.debian_name, scratch], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=BUILD_SECONDS)
        if step.returncode != 0:
            raise RuntimeError(f"building the guest failed:\n{step.stdout}")
        scratch.rename(guest.files)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
