"""`codesandbox run` with its own launcher: as root, as a user with and without subordinate ids, in a scope."""

import json

RUN = "codesandbox run --json --limit wall=60s /mnt/payload/payloads/facts.py"
WALLS = "1000 0000000000000000 1 2"


def run(machine):
    machine.succeed("install -m 755 /mnt/payload/bin/codesandbox /usr/local/bin/")
    machine.succeed("useradd --create-home ranged", "useradd --create-home single", "sed -i /^single:/d /etc/subuid /etc/subgid")
    machine.succeed("grep -q ^ranged: /etc/subuid", "chmod u+s $(command -v newuidmap newgidmap)")

    root = facts(machine, RUN)
    ranged = facts(machine, f"runuser -l ranged -c '{RUN}'")
    single = facts(machine, f"runuser -l single -c '{RUN}'")
    scope = facts(machine, f"systemd-run --quiet --scope -p Delegate=yes {RUN}")
    # Two ids, for init and program, where there is a range; one where there is none.
    for answer in (root, ranged, scope):
        assert answer["ids"] == 2, answer
    assert single["ids"] == 1, single
    assert root["enforced_by"] == single["enforced_by"] == "rlimit", (root, single)
    assert scope["enforced_by"] == "cgroup2", scope

    # Nothing is left: no process of the sandboxes' ids, no leaf.
    machine.succeed("test -z \"$(pgrep --full '[f]acts.py')\"")
    machine.succeed("test -z \"$(find /sys/fs/cgroup -name 'leaf-*')\"")
    # Exit status 1 says degraded: it runs, and something could be better.
    status, _ = machine.execute("codesandbox doctor")
    assert status in (0, 1), status


def facts(machine, command):
    answer = json.loads(machine.succeed(command))
    assert answer["status"] == "ok", answer
    walls, ids = answer["run"]["stdout"].splitlines()
    assert walls == WALLS, answer
    return {"ids": int(ids), "enforced_by": answer["limits"]["enforced_by"]}
