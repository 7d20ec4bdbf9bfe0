"""States that machines are restored from: one that has booted, kept, and one with codeSandbox, for a run."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from . import guest
from .architecture import Architecture
from .guest import Guest
from .install import install
from .machine import BOOT_SECONDS, Disks, Machine, say
from .qemu import HARDWARE, KERNEL_ARGUMENTS, version
from .errors import MachineError, RequestedAssertionFailed

Made = TypeVar("Made")

# A sparse disk. Its size is part of the saved state, hence the same for every payload.
PAYLOAD_BYTES = 2 << 30

# Carried out once, before saving: what every restored machine then has done already. The last
# lines bring the programs that most scenarios use into the page cache.
SETTLE = """
systemctl is-system-running --wait >/dev/null || true
modprobe -a overlay nf_tables veth bridge tun loop
python3 -c 'import json, os, socket, subprocess, ctypes, glob, http.client'
systemd-run --quiet --wait --pipe true
curl --version >/dev/null; nft list ruleset
journalctl --no-pager -n 1 >/dev/null
sync
"""


class Laboratory:
    """Hands out machines with codeSandbox installed, all alike. Use as a context manager."""

    def __init__(self, architecture: Architecture, payload: Path, artifacts: Path):
        self._architecture = architecture
        self._artifacts = artifacts
        self._work = Path(tempfile.mkdtemp(prefix="codesandbox-vm."))
        self._disk = self._work / "payload.ext4"
        self._payload = payload
        self._installed: dict[str | None, Path] = {}

    def __enter__(self) -> "Laboratory":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self._work, ignore_errors=True)

    def prepare(self, host: str | None) -> None:
        """Installs codeSandbox with the units of a host and saves the machine, for those asked for later to be like it."""
        files = guest.provide(self._architecture)
        booted = _booted(files)
        if not self._disk.exists():
            make_payload_disk(self._payload, self._disk)
        result = Path(tempfile.mkdtemp(prefix="installed.", dir=self._work))
        make_overlay(booted / "root.qcow2", "qcow2", result / "root.qcow2")
        disks = Disks(files, result / "root.qcow2", self._disk)
        machine = _twice(lambda work: Machine(disks, work, booted / "state", self._artifacts))
        try:
            machine.set_clock()
            machine.mount_payload()
            install(machine, self._payload, host)
            machine.save(result / "state")
        except BaseException:
            machine.keep_records(self._artifacts / "install")
            raise
        finally:
            machine.close()
        self._installed[host] = result

    def machine(self, host: str | None, artifacts: Path, terminal: bool = False) -> Machine:
        """A machine as it was after the host's installation, which leaves what it should keep in `artifacts`."""
        installed, files = self._installed[host], guest.provide(self._architecture)

        def restore(work: Path) -> Machine:
            make_overlay(installed / "root.qcow2", "qcow2", work / "root.qcow2")
            disks = Disks(files, work / "root.qcow2", self._disk)
            machine = Machine(disks, work, installed / "state", artifacts, terminal)
            try:
                machine.set_clock()
            except BaseException:
                machine.close()
                raise
            return machine

        return _twice(restore)


def make_payload_disk(directory: Path, disk: Path) -> None:
    """An ext4 image of a directory."""
    with open(disk, "wb") as stream:
        stream.truncate(PAYLOAD_BYTES)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", directory, disk],
        check=True, env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


def make_overlay(base: Path, base_format: str, overlay: Path) -> None:
    """A disk that takes what is written over another."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", base, overlay],
                   check=True)


def _booted(files: Guest) -> Path:
    """The directory with a booted machine's state and disk, made when the cache has none."""
    architecture = files.architecture
    key = guest.digest(version(architecture.emulator), architecture.kernel_arguments, architecture.hardware,
                       KERNEL_ARGUMENTS, HARDWARE, SETTLE, str(PAYLOAD_BYTES))
    target = files.files / f"saved-{key}"
    with guest.locked(files.files):
        if not target.exists():
            say("booting the guest and saving its state, once")
            _twice(lambda work: _boot_and_save(files, work)).rename(target)
    return target


def _boot_and_save(files: Guest, work: Path) -> Path:
    result = Path(tempfile.mkdtemp(prefix="saving.", dir=files.files))
    try:
        empty, disk, overlay = work / "empty", work / "payload.ext4", result / "root.qcow2"
        empty.mkdir()
        make_payload_disk(empty, disk)
        make_overlay(files.files / "root.ext4", "raw", overlay)
        machine = Machine(Disks(files, overlay, disk), work, None, work)
        try:
            machine.succeed(SETTLE, "umount /mnt/payload", timeout=BOOT_SECONDS)
            machine.save(result / "state")
        finally:
            machine.close()
    except BaseException:
        shutil.rmtree(result, ignore_errors=True)
        raise
    return result


def _twice(start: Callable[[Path], Made]) -> Made:
    """Emulated machines sometimes end at start for no known reason: one more try, said aloud."""
    for last in (False, True):
        work = Path(tempfile.mkdtemp(prefix="codesandbox-vm."))
        try:
            return start(work)
        except (RuntimeError, OSError, MachineError, RequestedAssertionFailed) as error:
            shutil.rmtree(work, ignore_errors=True)
            if last:
                raise
            say(f"the machine did not start, trying once more: {error}")
    raise AssertionError("unreachable")
