"""Jobs for the daemon of a guest."""

import json
import shlex

from lib.machine import Machine


def run_jobs(machine: Machine, *jobs: dict) -> list[dict]:
    """Runs jobs one after another; the body of each answer, which must be a result."""
    text = shlex.quote(json.dumps(jobs))
    answers = json.loads(machine.succeed(f"echo {text} | python3 /mnt/payload/payloads/client.py"))
    for answer in answers:
        assert answer["code"] == 200, answer
    return [answer["body"] for answer in answers]


def python(source: str, **request) -> dict:
    """A job that runs Python code. The guest's processor is emulated, hence the generous time."""
    request["limits"] = {"wall_time_ms": 60_000, "cpu_time_ms": 60_000} | request.get("limits", {})
    return {"runtime": "python", "files": [{"content": source}], **request}
