"""How every scenario ends: the service is stopped, and nothing of it or of a sandbox is left."""

import json

from .guest import Machine, program

# Patterns, since hosts differ in what listens.
UNITS = "'codesandbox*.socket' 'codesandbox*.service'"
PANICS = "journalctl --sync; journalctl --boot --no-pager --output=cat --unit='codesandbox*' | grep 'panicked at' || true"


def leftovers(machine: Machine) -> list[str]:
    """What is left of sandboxes and failures, a line each: groups, processes, mounts, files, units.

    Leaves that wait for their next sandbox are in use as long as the launcher runs: stop it first.
    """
    found: list[str] = json.loads(machine.succeed(program("leftovers.py")))
    return found


def finish(machine: Machine) -> None:
    """Stops the service and asserts that nothing is left; both drivers call it after a scenario."""
    machine.succeed(f"systemctl stop {UNITS}")
    found = leftovers(machine)
    assert not found, "left behind:\n" + "\n".join(found)
    panics = machine.succeed(PANICS)
    assert not panics, f"a program of ours panicked:\n{panics}"
