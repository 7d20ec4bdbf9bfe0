"""Sandboxes that wait for requests: how many do, and what they are."""

import json
from typing import Any

from .client import Answer
from .configuration import configuration, configure
from .guest import Machine, program

NOBODY = {"floor": 0, "ceiling": 0, "runtimes": {}}
RELOAD = "systemctl reload codesandboxd.service"
# One leaf with a process in it; the shell's options make a pipe fail whose first part does.
A_LEAF_IS_BUSY = "find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs' -exec cat {} + | grep -q ."


def have_none_wait(machine: Machine) -> None:
    """From here on there are no sandboxes but those of jobs; waits until no leaf has a process.

    For whoever counts what is there, and wants it to be a job's. The daemon must run, and no job.
    """
    bound(machine, **NOBODY)
    machine.wait_until_fails(A_LEAF_IS_BUSY)


def bound(machine: Machine, **bounds: Any) -> None:
    """Changes section `pool`, and has the service read it. All that waited is let go, and made anew."""
    config = configuration(machine)
    config.setdefault("pool", {}).update(bounds)
    configure(machine, config)
    machine.succeed(RELOAD)


def waiting(machine: Machine) -> list[Answer]:
    """Each live sandbox with its processes, leaf and limits; where no job runs, these are what waits."""
    found: list[Answer] = json.loads(machine.succeed(program("waiting.py")))
    return found
