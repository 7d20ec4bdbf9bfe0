"""Sessions of a guest's daemon, and their groups."""

import json
import shlex
from typing import Any

from .client import SOCKET, Answer
from .guest import Machine, program

# Where the groups of sessions are.
UNIT = "/sys/fs/cgroup/codesandbox.slice/codesandbox-launcher.service"


def ask(machine: Machine, *requests: tuple[Any, ...]) -> list[Answer]:
    """Sends requests, each of method, path and perhaps a body, one after another; code and body of each answer."""
    text = shlex.quote(json.dumps(requests))
    answers: list[Answer] = json.loads(machine.succeed(f"echo {text} | {program('ask.py', SOCKET)}"))
    return answers


def session_groups(machine: Machine) -> list[str]:
    """The group of each session."""
    return machine.succeed(f"find {UNIT} -maxdepth 1 -name 'session-*'").split()


class Session:
    """A session of one's own."""

    def __init__(self, machine: Machine, **request: Any):
        self.machine = machine
        groups = session_groups(machine)
        answer, = ask(machine, ("POST", "/v1/sessions", {"runtimes": ["bash", "python"]} | request))
        assert answer["code"] == 201, answer
        self.id: str = answer["body"]["id"]
        self.path = f"/v1/sessions/{self.id}"
        # While the files of another are saved, that has a group too, for a moment.
        for _ in range(30):
            made = set(session_groups(machine)) - set(groups)
            if len(made) == 1:
                break
            machine.succeed("sleep 0.5")
        assert len(made) == 1, f"groups of a new session: {made}"
        self.group: str = made.pop()

    def asked(self, method: str, path: str = "", *body: Any, code: int = 200) -> Any:
        """What is answered to a request about it, which must have this status."""
        answer, = ask(self.machine, (method, self.path + path, *body))
        assert answer["code"] == code, answer
        return answer["body"]

    def begin(self, *argv: str, **request: Any) -> int:
        """The number of a program that goes on while the scenario does."""
        body = {"argv": argv, "detach": True} | request
        number: int = self.asked("POST", "/execs", body, code=201)["id"]
        return number

    def run(self, *argv: str, **request: Any) -> Answer:
        """How a program ended."""
        result: Answer = self.asked("POST", "/execs", {"argv": argv} | request)["result"]
        return result

    def ended(self, number: int, timeout: int = 120) -> Answer:
        """How one ended that was begun."""
        path = f"{self.path}/execs/{number}"
        command = f"curl -sS --fail --unix-socket {SOCKET} http://localhost{path}"
        self.machine.wait_until_succeeds(f"{command} | grep -q '\"state\": *\"finished\"'", timeout=timeout)
        result: Answer = json.loads(self.machine.succeed(command))["result"]
        return result

    def of_group(self, file: str, below: str = "") -> str:
        """What a file of its group says."""
        return self.machine.succeed(f"cat {self.group}/{below}{file}").strip()
