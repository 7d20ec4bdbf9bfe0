"""Runs a scenario as the NixOS test driver does: its text, with the driver's names as globals."""

import contextlib
import os
import signal
import traceback
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from codesandbox_vm import Skip

from .machine import Machine, retry

VM_TESTS = Path(__file__).resolve().parents[2]
SCENARIOS = VM_TESTS / "scenarios"
EPILOGUE = VM_TESTS / "lib" / "epilogue.py"
GLOBAL_TIMEOUT_SECONDS = 900
# Scenarios of hosts with more than the module's defaults: what NAME.nix says on NixOS.
HOSTS = {"network": "networked", "doors": "networked"}


# Those that take longest, the longest first: with several machines, none is left for the end alone.
LONGEST = (
    "failure", "parked_and_warm", "sessions_survive", "sessions_limits", "slices", "upgrade", "network", "config_errors",
    "reboot",
)


@dataclass
class Verdict:
    """How a scenario ended: passed, failed or skipped, and why."""

    word: str
    reason: str = ""


def names() -> list[str]:
    """All scenarios."""
    found = sorted(path.stem for path in SCENARIOS.glob("*.py"))
    return sorted(found, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))


def run(name: str, machine: Machine, artifacts: Path) -> Verdict:
    """Runs a scenario and the epilogue. One that fails leaves traceback, journal and console."""
    variables = script_globals(machine)
    try:
        with _limited(GLOBAL_TIMEOUT_SECONDS):
            for path in (SCENARIOS / f"{name}.py", EPILOGUE):
                exec(compile(path.read_text(), path, "exec"), variables)
    except Skip as reason:
        return Verdict("skipped", str(reason))
    except Exception as error:
        machine.keep_records(artifacts)
        (artifacts / "traceback.log").write_text(traceback.format_exc())
        traceback.print_exc()
        return Verdict("failed", f"{type(error).__name__}, see {artifacts}")
    return Verdict("passed")


def script_globals(machine: Machine) -> dict[str, Any]:
    """What `prelude.py` declares."""

    @contextlib.contextmanager
    def subtest(name: str) -> Iterator[None]:
        with machine.nested(f"subtest: {name}"):
            try:
                yield
            except Exception as error:
                error.add_note(f"in subtest: {name}")
                raise

    return {
        "__name__": "__main__", "Machine": Machine, "machine": machine, "machines": [machine],
        "start_all": machine.start, "join_all": machine.wait_for_shutdown, "subtest": subtest, "retry": retry,
        "log": machine, "t": unittest.TestCase(), "os": os,
    }


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def end(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the scenario took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
