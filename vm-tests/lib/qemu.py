"""One QEMU process: its arguments, its control socket, its end."""

import json
import socket
import subprocess
import time
from pathlib import Path

MEMORY_MIB = 1024
# Control commands are answered at once; loading a state takes seconds on a loaded host.
CONTROL_SECONDS = 90

KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr nowatchdog cryptomgr.notests "
    "tsc=reliable no_timer_check random.trust_cpu=on rcupdate.rcu_expedited=1"
)

# Restoring demands the very devices, memory and processor that were saved.
# No NVMe: it cannot be saved. vmgenid: the kernel reseeds on restore, else every machine restored
# from one state would draw the same random numbers. qemu64: the emulator's default "max" saves
# features that differ between QEMU's builds.
HARDWARE = (
    "-nodefaults -no-user-config -display none -no-reboot "
    f"-M q35 -accel tcg,thread=multi -cpu qemu64 -smp 2 -m {MEMORY_MIB} "
    "-device virtio-blk-pci,drive=root -device virtio-blk-pci,drive=payload "
    "-device virtio-serial-pci -device virtserialport,chardev=shell,name=shell "
    "-device vmgenid,guid=auto"
).split()


class Qemu:
    """A running QEMU. It dies with the thread that started it, even if that is killed."""

    def __init__(self, guest: Path, work: Path, root: Path, payload: Path, state: Path | None):
        self.console = work / "console.log"
        self.shell_socket = work / "shell.sock"
        control = work / "qmp.sock"
        arguments = [
            "qemu-system-x86_64", *HARDWARE,
            "-kernel", str(guest / "vmlinux"), "-initrd", str(guest / "initrd"),
            "-append", KERNEL_ARGUMENTS,
            "-drive", f"if=none,id=root,file={root},format=qcow2,cache=unsafe",
            "-drive", f"if=none,id=payload,file={payload},format=raw,snapshot=on",
            "-chardev", f"socket,id=shell,path={self.shell_socket},server=on,wait=off",
            "-serial", f"file:{self.console}",
            "-qmp", f"unix:{control},server=on,wait=off",
        ]
        if state is not None:
            arguments += ["-incoming", f"file:{state}"]
        # setpriv sets the signal and then becomes QEMU: a driver that is killed leaves nothing.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(work / "qemu.log", "wb"),
        )
        self._log = work / "qemu.log"
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

    def control(self, command: str, **arguments):
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

    def resume_restored(self):
        """Waits until the state has been read, then lets the guest run."""
        self._wait(lambda: self.control("query-status")["status"] != "inmigrate", "the state to load")
        self.control("cont")

    def save(self, state: Path):
        """Stops the guest and writes its state; the disk's overlay belongs to it."""
        self.control("stop")
        self.control("migrate-set-parameters", **{"max-bandwidth": 10 << 30})
        self.control("migrate", uri=f"file:{state}")

        def done():
            status = self.control("query-migrate")
            if status.get("status") == "failed":
                raise RuntimeError(f"saving failed: {status.get('error-desc')}")
            return status.get("status") == "completed"

        self._wait(done, "the state to be saved")
        self.control("quit")
        self._process.wait(CONTROL_SECONDS)

    def kill(self):
        """Ends this process, no other."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _wait(self, condition, what: str):
        deadline = time.monotonic() + CONTROL_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {CONTROL_SECONDS} s for {what}")
            time.sleep(0.02)


def version() -> str:
    """The version line: a state is only good for the QEMU that wrote it."""
    return subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.splitlines()[0]
