"""One QEMU process: its arguments, its control socket, its end."""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .guest import Guest

MEMORY_MIB = 1024
# Control commands are answered at once; loading a state takes seconds on a loaded host.
CONTROL_SECONDS = 90

KERNEL_ARGUMENTS = (
    "quiet panic=-1 mitigations=off nokaslr nowatchdog cryptomgr.notests "
    "random.trust_cpu=on rcupdate.rcu_expedited=1"
)

# Restoring demands the very devices, memory and processor that were saved.
# No NVMe: it cannot be saved.
HARDWARE = (
    "-nodefaults -no-user-config -display none -no-reboot "
    f"-accel tcg,thread=multi -smp 2 -m {MEMORY_MIB} "
    "-device virtio-blk-pci,drive=root -device virtio-blk-pci,drive=payload "
    "-device virtio-serial-pci -device virtserialport,chardev=shell,name=shell"
)


class Qemu:
    """A running QEMU. It dies with the thread that started it, even if that is killed."""

    def __init__(self, guest: Guest, work: Path, root: Path, payload: Path, state: Path | None, terminal: bool = False):
        self.shell_socket = work / "shell.sock"
        control = work / "qmp.sock"
        # The one way to leave the console is the guest's own, hence no signals from the keyboard.
        console = (f"stdio,id=console,signal=off,logfile={work / 'console.log'}" if terminal
                   else f"file,id=console,append=on,path={work / 'console.log'}")
        arguments = [
            guest.architecture.emulator, *guest.architecture.hardware.split(), *HARDWARE.split(),
            "-kernel", str(guest.files / "kernel"), "-initrd", str(guest.files / "initrd"),
            "-append", f"{guest.architecture.kernel_arguments} {KERNEL_ARGUMENTS}",
            "-drive", f"if=none,id=root,file={root},format=qcow2,cache=unsafe",
            "-drive", f"if=none,id=payload,file={payload},format=raw,snapshot=on",
            "-chardev", f"socket,id=shell,path={self.shell_socket},server=on,wait=off",
            "-chardev", console,
            "-serial", "chardev:console",
            "-qmp", f"unix:{control},server=on,wait=off",
        ]
        if state is not None:
            arguments += ["-incoming", f"file:{state}"]
        self._log = work / "qemu.log"
        # setpriv sets the signal and then becomes QEMU: a driver that is killed leaves nothing.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],
            stdin=None if terminal else subprocess.DEVNULL,
            stdout=None if terminal else subprocess.DEVNULL,
            stderr=open(self._log, "wb"),
        )
        try:
            self._control = self.connect(control)
            self._lines = self._control.makefile("rw")
            self._lines.readline()  # the greeting
            self.control("qmp_capabilities")
        except BaseException:
            self.kill()
            raise

    def connect(self, path: Path) -> socket.socket:
        """Connects to one of QEMU's sockets, as soon as it is there."""
        deadline = time.monotonic() + CONTROL_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(CONTROL_SECONDS)
            try:
                connection.connect(str(path))
                return connection
            except OSError:
                connection.close()
                if self._process.poll() is not None:
                    raise RuntimeError(f"qemu ended at start: {self._log.read_text()}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def control(self, command: str, **arguments: Any) -> Any:
        """Carries out one QMP command and returns its result."""
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        for line in self._lines:  # events come in between
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"qemu refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise RuntimeError(f"qemu ended during {command}: {self._log.read_text()}")

    def resume_restored(self) -> None:
        """Waits until the state has been read, then lets the guest run."""
        self._wait(lambda: bool(self.control("query-status")["status"] != "inmigrate"), "the state to load")
        self.control("cont")

    def save(self, state: Path) -> None:
        """Stops the guest and writes its state; the disk's overlay belongs to it."""
        self.control("stop")
        self.control("migrate-set-parameters", **{"max-bandwidth": 10 << 30})
        self.control("migrate", uri=f"file:{state}")

        def done() -> bool:
            status = self.control("query-migrate")
            if status.get("status") == "failed":
                raise RuntimeError(f"saving failed: {status.get('error-desc')}")
            return bool(status.get("status") == "completed")

        self._wait(done, "the state to be saved")
        self.control("quit")
        self._process.wait(CONTROL_SECONDS)

    def running(self) -> bool:
        """Whether the machine is switched on."""
        return self._process.poll() is None

    def wait_for_end(self, timeout: float | None) -> None:
        """Waits until the machine has switched itself off."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the machine is still on after {timeout} s") from None

    def kill(self) -> None:
        """Ends this process, no other."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CONTROL_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {CONTROL_SECONDS} s for {what}")
            time.sleep(0.02)


def version(emulator: str) -> str:
    """The version line: a state is only good for the QEMU that wrote it."""
    return subprocess.run([emulator, "--version"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.splitlines()[0]
