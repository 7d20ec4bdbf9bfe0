"""A running guest with the methods of the NixOS test driver's Machine that make sense on one machine.

What differs: `fail` and `wait_until_fails` do not take a command that ran into its time limit for one
that failed; standard error is kept and shown with a failure; there is no network and no screen.
"""

import base64
import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineError, RequestedAssertionFailed
from .guest import Guest
from .qemu import Qemu
from .shell import Result, Shell

# Emulation on a busy host: a boot of 10 s has been seen to take 30.
BOOT_SECONDS = 180
POLL_SECONDS = 0.2
# What goes through the shell goes in pieces of this many bytes, before encoding.
PIECE_BYTES = 1 << 16
PAYLOAD = "/mnt/payload"


@dataclass(frozen=True)
class Disks:
    """The files that a machine consists of."""

    guest: Guest
    root: Path
    payload: Path


class Machine:
    """One guest, switched on. Its name is `machine`, as in a NixOS test with one node."""

    name = "machine"

    def __init__(self, disks: Disks, work: Path, state: Path | None, artifacts: Path, terminal: bool = False):
        self._disks, self._work, self._terminal = disks, work, terminal
        self._artifacts = artifacts
        self._log = open(work / "driver.log", "a", buffering=1)
        self._since = time.monotonic()
        self._restored_at = int(time.time())
        self._console_read = 0
        self._allow_reboot = False
        self._connected = False
        self._qemu = self._switch_on(state)

    # Commands.

    def execute(self, command: str, check_return: bool = True, check_output: bool = True,
                timeout: int | None = 900) -> tuple[int, str]:
        """Runs bash code with `set -euo pipefail`; its exit status and standard output.

        A command that takes longer than `timeout` seconds is killed and has status 124. Without
        `check_output`, nobody waits for the end; the status is -2 then, and -1 without `check_return`.
        """
        if not check_output:
            self.connect()
            self.log(f"begin: {command}")
            self._shell.begin(command, timeout)
            return -2, ""
        result = self._run(command, timeout)
        return result.status if check_return else -1, result.output

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must succeed; their standard output."""
        outputs = []
        for command in commands:
            result = self._run(command, timeout)
            if result.status != 0:
                raise _failed(command, f"failed with status {result.status}", result)
            outputs.append(result.output)
        return "".join(outputs)

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must fail, by themselves and not by the time limit; their output."""
        outputs = []
        for command in commands:
            result = self._run(command, timeout)
            if result.status in (0, 124):
                verdict = "succeeded" if result.status == 0 else "ran into the time limit"
                raise _failed(command, f"{verdict}, should have failed", result)
            outputs.append(result.output)
        return "".join(outputs)

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it succeeds; its standard output."""
        return self._repeat(command, timeout, lambda status: status == 0, "succeed")

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        """Repeats a command until it fails; its standard output."""
        return self._repeat(command, timeout, lambda status: status not in (0, 124), "fail")

    def sleep(self, secs: int) -> None:
        """Waits, by the guest's clock."""
        self.succeed(f"sleep {secs}")

    # systemd.

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Runs systemctl; its exit status and standard output."""
        manager = "" if user is None else f"--user --machine={shlex.quote(user)}@.host "
        return self.execute(f"systemctl {manager}{q}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        status, lines = self.systemctl(f"--no-pager show {shlex.quote(unit)}", user)
        if status != 0:
            raise RequestedAssertionFailed(f"retrieving systemctl info for unit {unit} failed with status {status}")
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        status, lines = self.systemctl(
            f"--no-pager show {shlex.quote(unit)} --property={shlex.quote(property)}", user)
        if status != 0 or "=" not in lines:
            raise RequestedAssertionFailed(f"retrieving property {property} of unit {unit} failed: {lines}")
        return lines.strip().split("=", 1)[1]

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Asserts that a unit is in a state now."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise RequestedAssertionFailed(f"expected unit {unit} to be {require_state}, but it is {state}")

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None:
        """Waits until a unit is active; one that has failed or will not start is an error."""
        deadline = time.monotonic() + timeout
        while True:
            _, lines = self.systemctl(f"--no-pager show --property=ActiveState,Job {shlex.quote(unit)}", user)
            facts = dict(line.split("=", 1) for line in lines.splitlines())
            state = facts.get("ActiveState")
            if state == "active":
                return
            if state == "failed" or (state == "inactive" and facts.get("Job") in (None, "", "0")):
                _, status = self.systemctl(f"status --no-pager --full {shlex.quote(unit)}", user)
                raise RequestedAssertionFailed(f"unit {unit} is {state} and there is no pending job\n{status}")
            if time.monotonic() > deadline:
                raise RequestedAssertionFailed(f"waited {timeout} s for unit {unit}, it is {state}")
            time.sleep(POLL_SECONDS)

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Starts a unit."""
        return self.systemctl(f"start {shlex.quote(jobname)}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Stops a unit."""
        return self.systemctl(f"stop {shlex.quote(jobname)}", user)

    # Waiting for things.

    def wait_for_file(self, filename: str, timeout: int = 900) -> None:
        """Waits until a file exists."""
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until somebody listens on a TCP port."""
        self.wait_until_succeeds(_connects(port, addr), timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until nobody listens on a TCP port."""
        self.wait_until_fails(_connects(port, addr), timeout)

    def wait_for_open_unix_socket(self, addr: str, is_datagram: bool = False, timeout: int = 900) -> None:
        """Waits until somebody listens on a Unix socket."""
        kind = 2 if is_datagram else 1
        self.wait_until_succeeds(f"socat -u OPEN:/dev/null UNIX-CONNECT:{shlex.quote(addr)},type={kind}", timeout)

    def wait_for_console_text(self, regex: str, timeout: int | None = None) -> None:
        """Waits for a line on the console, below the one that the last call found."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (found := re.compile(regex).search(self.get_console_log(), self._console_read)):
            if deadline is not None and time.monotonic() > deadline:
                raise RequestedAssertionFailed(f"waited {timeout} s for {regex!r} on the console")
            time.sleep(POLL_SECONDS)
        self._console_read = found.end()

    def get_console_log(self) -> str:
        """What kernel and systemd have printed since this machine was restored."""
        return (self._work / "console.log").read_text(errors="replace")

    # Files.

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file or directory of the driver's host into the guest."""
        self.copy_from_host_via_shell(source, target)

    def copy_from_host_via_shell(self, source: str, target: str) -> None:
        """Copies a file or directory of the driver's host into the guest, over the shell."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname="it")
        place, bytes_ = shlex.quote(target), packed.getvalue()
        self.succeed(f"mkdir -p $(dirname {place}); rm -f /run/vm-shell/copy")
        for start in range(0, len(bytes_), PIECE_BYTES):
            text = base64.b64encode(bytes_[start:start + PIECE_BYTES]).decode()
            self.succeed(f"base64 -d >> /run/vm-shell/copy <<< {text}")
        self.succeed(f"cd $(dirname {place}); tar -x --no-same-owner --transform=\"s|^it|$(basename {place})|\" "
                     "-f /run/vm-shell/copy; rm /run/vm-shell/copy")

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copies a file or directory of the guest to the scenario's artifacts."""
        text = self.succeed(f"tar -c -C $(dirname {shlex.quote(source)}) $(basename {shlex.quote(source)}) | base64 -w 0")
        place = self._artifacts / target_dir
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-x", "--no-same-owner", "-C", place], input=base64.b64decode(text), check=True)

    # On and off.

    def is_up(self) -> bool:
        """Whether the machine is switched on and has been talked to."""
        return self._connected and self._qemu.running()

    def start(self, allow_reboot: bool = False) -> None:
        """Switches the machine on if it is off; it boots from its disk. It may reboot if so allowed."""
        if not self._qemu.running():
            self._qemu = self._switch_on(None)
        self._allow_reboot = allow_reboot
        self._qemu.control("set-action", reboot="reset" if allow_reboot else "shutdown")

    def connect(self) -> None:
        """Waits until the guest takes commands; whatever runs one does this by itself."""
        if not self._qemu.running():
            self.start()
        if not self._connected:
            self._shell.wait_for_boot(BOOT_SECONDS)
            self._connected = True
            self.succeed(f"mount -o ro /dev/vdb {PAYLOAD}")

    def shutdown(self) -> None:
        """Switches the machine off as its user would."""
        if self._qemu.running():
            self.execute("systemctl poweroff", check_output=False)
            self.wait_for_shutdown()

    def crash(self) -> None:
        """Switches the machine off as a power cut would."""
        self.log("crash")
        self._qemu.kill()
        self._connected = False

    def reboot(self) -> None:
        """Has the guest reboot; unless started with `allow_reboot`, it stays off until it is used."""
        self.execute("systemctl reboot", check_output=False)
        if not self._allow_reboot:
            self.wait_for_shutdown()
        self._connected = False

    def wait_for_shutdown(self) -> None:
        """Waits until the guest has switched its machine off."""
        self._qemu.wait_for_end(BOOT_SECONDS)
        self._connected = False

    # Telling.

    def log(self, msg: str) -> None:
        """Writes a line into the driver's log, which is kept of a scenario that fails."""
        self._log.write(f"{time.monotonic() - self._since:7.2f} {msg}\n")

    @contextlib.contextmanager
    def nested(self, msg: str) -> Iterator[None]:
        """Writes a line before and after what is done in its context."""
        started = time.monotonic()
        self.log(f"begin: {msg}")
        yield
        self.log(f"end: {msg} ({time.monotonic() - started:.2f} s)")

    # For this driver alone.

    def set_clock(self) -> None:
        """Sets the time of a restored guest, which goes on where it was saved."""
        self.succeed(f"date --utc --set=@{time.time():.3f} >/dev/null")

    def mount_payload(self) -> None:
        """Mounts the payload of a machine that was saved with an empty one."""
        # Blocks of the old one are still in the guest's cache, hence the flush.
        self.succeed(f"blockdev --flushbufs /dev/vdb; mount -o ro /dev/vdb {PAYLOAD}")

    def save(self, state: Path) -> None:
        """Writes the machine's state to a file and switches it off."""
        self._qemu.save(state)

    def keep_records(self, target: Path) -> None:
        """Leaves console, driver's log and the journal since the restore in a directory."""
        target.mkdir(parents=True, exist_ok=True)
        for name in ("console.log", "driver.log"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self._work / name, target / name)
        try:
            journal = self._shell.run(
                f"journalctl --no-pager --output=short-monotonic --since=@{self._restored_at}", 60).output
        except (OSError, MachineError) as error:
            journal = f"the journal cannot be read: {error}\n"
        (target / "journal.log").write_text(journal)

    def close(self) -> None:
        """Switches the machine off and forgets its disks."""
        self._qemu.kill()
        self._log.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def _switch_on(self, state: Path | None) -> Qemu:
        disks = self._disks
        qemu = Qemu(disks.guest, self._work, disks.root, disks.payload, state, self._terminal)
        try:
            self._shell = Shell(qemu.connect(qemu.shell_socket))
            # A restored shell is waiting already.
            self._connected = state is not None
            if state is not None:
                qemu.resume_restored()
        except BaseException:
            qemu.kill()
            raise
        return qemu

    def _run(self, command: str, timeout: int | None) -> Result:
        self.connect()
        started = time.monotonic()
        try:
            result = self._shell.run(command, timeout)
        except (OSError, TimeoutError) as error:
            raise MachineError(f"{error}; its console:\n{self.get_console_log()[-2000:]}") from None
        self.log(f"status {result.status} after {time.monotonic() - started:.2f} s: {command}")
        return result

    def _repeat(self, command: str, timeout: int, wanted: Callable[[int], bool], verb: str) -> str:
        deadline = time.monotonic() + timeout
        while True:
            result = self._run(command, max(1, int(deadline - time.monotonic())))
            if wanted(result.status):
                return result.output
            if time.monotonic() > deadline:
                raise _failed(command, f"did not {verb} within {timeout} s", result)
            time.sleep(POLL_SECONDS)


def retry(fn: Callable[[bool], bool], timeout: int = 900) -> None:
    """Calls a function once a second until it returns true; the last call is told that it is."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if fn(False):
            return
        time.sleep(1)
    if not fn(True):
        raise RequestedAssertionFailed(f"action timed out after {timeout} s")


def say(message: str) -> None:
    """A line about the driver's own work."""
    print(f"vm-tests: {message}", file=sys.stderr, flush=True)


def _connects(port: int, addr: str) -> str:
    return f"timeout 5 bash -c 'exec 3<>/dev/tcp/{addr}/{port}'"


def _failed(command: str, verdict: str, result: Result) -> RequestedAssertionFailed:
    return RequestedAssertionFailed(
        f"command {verdict}: {command}\n--- standard output\n{result.output}\n--- standard error\n{result.errors}")
