"""What the library needs of a driver's machine, and how programs of `payloads/` come into a guest."""

import shlex
from pathlib import Path
from typing import Protocol

PAYLOADS = Path(__file__).parent / "payloads"
PLACE = "/run/vm-tests"


class Machine(Protocol):
    """What both drivers' machines can do and this library uses."""

    def execute(self, command: str) -> tuple[int, str]: ...

    def succeed(self, *commands: str) -> str: ...

    def wait_until_fails(self, command: str) -> str: ...

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str: ...

    def copy_from_host_via_shell(self, source: str, target: str) -> None: ...


class Skip(Exception):
    """The claim cannot be tested on this machine; the text says what is missing.

    The Debian driver counts it as skipped. On NixOS, where nothing may be missing, it is a failure.
    """


def payload(name: str) -> str:
    """The text of a file of `payloads/`."""
    return (PAYLOADS / name).read_text()


def program(name: str, *arguments: str) -> str:
    """The command that runs a Python program of `payloads/`, without a file in the guest."""
    return shlex.join(["python3", "-c", payload(name), *arguments])


def place(machine: Machine, name: str) -> str:
    """Copies a file of `payloads/` into the guest, where everybody may read it; its path there."""
    target = f"{PLACE}/{Path(name).name}"
    machine.succeed(f"mkdir -p {PLACE}")
    machine.copy_from_host_via_shell(str(PAYLOADS / name), target)
    machine.succeed(f"chmod -R a+rX {PLACE}")
    return target
