"""Jobs for the daemon of a guest."""

import json
import shlex
from typing import Any

from .configuration import write
from .guest import PLACE, Machine, program

SOCKET = "/run/codesandbox/api.sock"

# An answer of the API: JSON, of which a scenario looks at what it claims.
Answer = dict[str, Any]


def run_jobs(machine: Machine, *jobs: Answer) -> list[Answer]:
    """Runs jobs one after another; the body of each answer, which must be a result."""
    text = shlex.quote(json.dumps(jobs))
    answers = json.loads(machine.succeed(f"echo {text} | {program('post.py', SOCKET)}"))
    for answer in answers:
        assert answer["code"] == 200, answer
    return [answer["body"] for answer in answers]


def begin_jobs(machine: Machine, name: str, *jobs: Answer) -> None:
    """Has jobs run, all at once, while the scenario goes on; `end_jobs` has their answers."""
    machine.succeed(f"mkdir -p {PLACE}")
    write(machine, f"{PLACE}/{name}.jobs", json.dumps(jobs))
    machine.succeed(
        f"systemd-run --quiet --collect --unit=jobs-{name} --description=jobs -p StandardInput=file:{PLACE}/{name}.jobs "
        f"-p StandardOutput=truncate:{PLACE}/{name}.answers {program('post.py', SOCKET, str(len(jobs)))}")


def end_jobs(machine: Machine, name: str) -> list[Answer]:
    """Waits for the jobs of `begin_jobs`; code and body of each answer."""
    machine.wait_until_fails(f"systemctl is-active --quiet jobs-{name}.service")
    answers: list[Answer] = json.loads(machine.succeed(f"cat {PLACE}/{name}.answers"))
    return answers


def bash(source: str, **request: Any) -> Answer:
    """A job that runs a script, which costs far less than to start Python."""
    return {"runtime": "bash", "files": [{"content": source}], **request}


def python(source: str, **request: Any) -> Answer:
    """A job that runs Python code. The guest's processor may be emulated, hence the generous time."""
    request["limits"] = {"wall_time_ms": 60_000, "cpu_time_ms": 60_000} | request.get("limits", {})
    return {"runtime": "python", "files": [{"content": source}], **request}


def health(path: str = "/health") -> str:
    """The command that asks the daemon for its health and fails unless the answer is a success."""
    return f"curl -sS --fail --max-time 100 --unix-socket {SOCKET} http://localhost{path}"
