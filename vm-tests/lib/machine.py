"""A running guest with the method names of the NixOS test driver's Machine.

What differs from NixOS: every `execute` has a time limit inside the guest, its standard error is
kept and shown with a failure, and a payload directory is mounted at /mnt/payload.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib import guest
from lib.qemu import HARDWARE, KERNEL_ARGUMENTS, Qemu, version

# Emulation on a busy host: a boot of 10 s has been seen to take 30.
BOOT_SECONDS = 180
COMMAND_SECONDS = 120
# A sparse disk. Its size is part of the saved state, hence the same for every payload.
PAYLOAD_BYTES = 2 << 30
POLL_SECONDS = 0.2

# Carried out once, before saving: what every restored machine then has done already. The last
# lines bring the programs that most scenarios use into the page cache.
SETTLE = """
systemctl is-system-running --wait >/dev/null || true
modprobe -a overlay nf_tables veth bridge tun loop
python3 -c 'import json, os, socket, subprocess, ctypes'
systemd-run --quiet --wait --pipe true
curl --version >/dev/null; nft list ruleset
journalctl --no-pager -n 1 >/dev/null
sync
"""


class CommandFailed(AssertionError):
    """A command in the guest did not end as the scenario claims."""


class Machine:
    """One guest. Use `Machine.restored(payload)` as a context manager."""

    def __init__(self, files: Path, work: Path, root: Path, payload: Path, state: Path | None):
        self._work = work
        self._started = int(time.time())
        self._qemu = Qemu(files, work, root, payload, state)
        try:
            self._shell = self._qemu.connect(self._qemu.shell_socket)
            self._unread = b""
            if state is None:
                self._receive_until(b"ready\n", time.monotonic() + BOOT_SECONDS)
            else:
                self._qemu.resume_restored()
                self._catch_up()
        except BaseException:
            self.close()
            raise

    @classmethod
    def restored(cls, payload: Path) -> "Machine":
        """A machine that has booted before, with the directory `payload` at /mnt/payload."""
        files = guest.directory()
        saved = _saved(files)

        def restore(work: Path) -> Machine:
            disk, overlay = work / "payload.ext4", work / "root.qcow2"
            _make_payload_disk(payload, disk)
            _make_overlay(saved / "root.qcow2", "qcow2", overlay)
            return cls(files, work, overlay, disk, saved / "state")

        return _twice(restore)

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Switches the machine off and forgets its disks."""
        self._qemu.kill()
        shutil.rmtree(self._work, ignore_errors=True)

    def execute(self, command: str, timeout: int = COMMAND_SECONDS) -> tuple[int, str]:
        """Runs bash code with `set -euo pipefail`; its exit status and standard output.

        A command that takes longer than `timeout` seconds is killed and has status 124.
        """
        status, output, _ = self._run(command, timeout)
        return status, output

    def succeed(self, *commands: str, timeout: int = COMMAND_SECONDS) -> str:
        """Runs commands that must succeed; their standard output."""
        outputs = []
        for command in commands:
            status, output, errors = self._run(command, timeout)
            if status != 0:
                raise CommandFailed(_report(command, f"failed with status {status}", output, errors))
            outputs.append(output)
        return "".join(outputs)

    def fail(self, *commands: str, timeout: int = COMMAND_SECONDS) -> str:
        """Runs commands that must fail, by themselves and not by the time limit; their output."""
        outputs = []
        for command in commands:
            status, output, errors = self._run(command, timeout)
            if status in (0, 124):
                verdict = "succeeded" if status == 0 else "ran into the time limit"
                raise CommandFailed(_report(command, f"{verdict}, should have failed", output, errors))
            outputs.append(output)
        return "".join(outputs)

    def wait_until_succeeds(self, command: str, timeout: int = COMMAND_SECONDS) -> str:
        """Repeats a command until it succeeds; its standard output."""
        return self._repeat(command, timeout, lambda status: status == 0, "succeed")

    def wait_until_fails(self, command: str, timeout: int = COMMAND_SECONDS) -> str:
        """Repeats a command until it fails; its standard output."""
        return self._repeat(command, timeout, lambda status: status not in (0, 124), "fail")

    def wait_for_file(self, filename: str, timeout: int = COMMAND_SECONDS):
        """Waits until a file exists."""
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    def wait_for_unit(self, unit: str, timeout: int = COMMAND_SECONDS):
        """Waits until a systemd unit is active; one that has failed or will not start is an error."""
        deadline = time.monotonic() + timeout
        query = f"systemctl show --property=ActiveState,Job {shlex.quote(unit)}"
        while True:
            facts = dict(line.split("=", 1) for line in self.succeed(query).split())
            state = facts["ActiveState"]
            if state == "active":
                return
            if state == "failed" or (state == "inactive" and facts.get("Job") in (None, "", "0")):
                _, status, _ = self._run(f"systemctl status --no-pager --full {shlex.quote(unit)}", timeout)
                raise CommandFailed(f"unit {unit} is {state} and no job is pending\n{status}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout} s for unit {unit}, it is {state}")
            time.sleep(POLL_SECONDS)

    def systemctl(self, query: str) -> tuple[int, str]:
        """Runs systemctl; its exit status and standard output."""
        return self.execute(f"systemctl {query}")

    def journal(self) -> str:
        """What has been logged since this machine was restored."""
        return self.succeed(f"journalctl --no-pager --output=short-monotonic --since=@{self._started}")

    def console(self) -> str:
        """What the kernel and systemd have printed on the console since the restore."""
        return self._qemu.console.read_text(errors="replace")

    def save(self, state: Path):
        """Writes the machine's state to a file; it has ended then."""
        self._qemu.save(state)

    def _catch_up(self):
        """Brings a restored guest up to date: the time, and the payload that has been changed."""
        # Blocks of the old payload are still in the guest's cache, hence the flush.
        self.succeed(
            f"date --utc --set=@{time.time():.3f} >/dev/null; blockdev --flushbufs /dev/vdb; "
            "mount -o ro /dev/vdb /mnt/payload"
        )

    def _repeat(self, command: str, timeout: int, wanted, verb: str) -> str:
        deadline = time.monotonic() + timeout
        while True:
            remaining = max(1, int(deadline - time.monotonic()))
            status, output, errors = self._run(command, remaining)
            if wanted(status):
                return output
            if time.monotonic() > deadline:
                raise TimeoutError(_report(command, f"did not {verb} within {timeout} s", output, errors))
            time.sleep(POLL_SECONDS)

    def _run(self, command: str, timeout: int) -> tuple[int, str, str]:
        """The protocol of image/guest/vm-shell: exit status, standard output, standard error."""
        nonce, code = secrets.token_hex(16).encode(), command.encode()
        self._shell.sendall(b"%s %d %d\n%s" % (nonce, timeout, len(code), code))
        # The guest ends the command by itself; this limit is for a guest that hangs.
        deadline = time.monotonic() + timeout + COMMAND_SECONDS
        output = self._receive_until(nonce, deadline)
        errors = self._receive_until(nonce, deadline)
        status = int(self._receive_until(b"\n", deadline))
        return status, output.decode(errors="replace"), errors.decode(errors="replace")

    def _receive_until(self, mark: bytes, deadline: float) -> bytes:
        searched = 0
        while (found := self._unread.find(mark, searched)) < 0:
            searched = max(0, len(self._unread) - len(mark))
            self._shell.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                received = self._shell.recv(1 << 18)
            except TimeoutError:
                raise TimeoutError(f"the guest does not answer; its console:\n{self.console()[-2000:]}") from None
            if not received:
                raise ConnectionError(f"the guest is gone; its console:\n{self.console()[-2000:]}")
            self._unread += received
        before, self._unread = self._unread[:found], self._unread[found + len(mark):]
        return before


def _saved(files: Path) -> Path:
    """The directory with a booted machine's state and disk, made when the cache has none."""
    key = guest.digest(version(), KERNEL_ARGUMENTS, " ".join(HARDWARE), SETTLE, str(PAYLOAD_BYTES))
    target = files / f"saved-{key}"
    with guest.locked(files):
        if not target.exists():
            print("vm-tests: booting the guest and saving its state, once", file=sys.stderr)
            _twice(lambda work: _boot_and_save(files, work)).rename(target)
    return target


def _boot_and_save(files: Path, work: Path) -> Path:
    result = Path(tempfile.mkdtemp(prefix="saving.", dir=files))
    try:
        empty, disk, overlay = work / "empty", work / "payload.ext4", result / "root.qcow2"
        empty.mkdir()
        _make_payload_disk(empty, disk)
        _make_overlay(files / "root.ext4", "raw", overlay)
        machine = Machine(files, work, overlay, disk, None)
        try:
            machine.succeed(SETTLE, timeout=BOOT_SECONDS)
            machine.save(result / "state")
        finally:
            machine.close()
    except BaseException:
        shutil.rmtree(result, ignore_errors=True)
        raise
    return result


def _twice(start):
    """Emulated machines sometimes end at start for no known reason: one more try, said aloud."""
    for attempt in (1, 2):
        work = Path(tempfile.mkdtemp(prefix="codesandbox-vm."))
        try:
            return start(work)
        except (RuntimeError, OSError, CommandFailed) as error:
            shutil.rmtree(work, ignore_errors=True)
            if attempt == 2:
                raise
            print(f"vm-tests: the machine did not start, trying once more: {error}", file=sys.stderr)


def _make_payload_disk(directory: Path, disk: Path):
    with open(disk, "wb") as stream:
        stream.truncate(PAYLOAD_BYTES)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", directory, disk],
        check=True, env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


def _make_overlay(base: Path, base_format: str, overlay: Path):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", base, overlay],
                   check=True)


def _report(command: str, verdict: str, output: str, errors: str) -> str:
    return f"command {verdict}: {command}\n--- standard output\n{output}\n--- standard error\n{errors}"
