"""`codesandbox run` with its own launcher: as root, as a user with and without subordinate ids, in a scope."""

import json

from codesandbox_vm import Answer, leftovers, place

# Where the service listens, it is asked.
machine.succeed("systemctl stop codesandboxd.socket codesandboxd.service codesandbox-launcher.socket")
RUN = f"codesandbox run --json --limit wall=60s {place(machine, 'facts.py')}"
WALLS = "1000 0000000000000000 1 2"


def facts(command: str) -> Answer:
    answer = json.loads(machine.succeed(command))
    assert answer["status"] == "ok", answer
    walls, ids = answer["run"]["stdout"].splitlines()
    assert walls == WALLS, answer
    return {"ids": int(ids), "enforced_by": answer["limits"]["enforced_by"]}


with subtest("as root"):
    t.assertEqual(facts(RUN), {"ids": 2, "enforced_by": "rlimit"})
# Two ids, for init and program, where there is a range; one where there is none.
with subtest("as a user with subordinate ids"):
    t.assertEqual(facts(f"runuser -l ranged -c '{RUN}'")["ids"], 2)
with subtest("as a user without"):
    t.assertEqual(facts(f"runuser -l stranger -c '{RUN}'"), {"ids": 1, "enforced_by": "rlimit"})
with subtest("in a scope with a subtree of its own"):
    t.assertEqual(facts(f"systemd-run --quiet --scope -p Delegate=yes {RUN}"), {"ids": 2, "enforced_by": "cgroup2"})
t.assertEqual(leftovers(machine), [])

# Exit status 1 says degraded: it runs, and something could be better.
status, _ = machine.execute("codesandbox doctor")
assert status in (0, 1), status
