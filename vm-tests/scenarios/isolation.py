"""Sandboxes of two users that live at one time have no ids in common and find nothing of one another."""

import json

from codesandbox_vm import Answer, configuration, configure, place, program

WORD = "w-isolation"
NEIGHBOUR = place(machine, "neighbour.py")
# With a loopback device of its own for each, and time enough for an emulated processor.
RUN = "codesandbox run --profile agent --limit wall=600s --limit cpu=60s --limit memory=64M"
# User ids of the processes in leaves, a line for each leaf.
LEAVES = """
for leaf in $(find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs'); do
    for pid in $(cat $leaf); do stat --format=%u /proc/$pid; done | sort -u | paste --serial --delimiters=' '
done | grep .
"""


def found_by(user: str) -> dict[str, bool]:
    answer: Answer = json.loads(machine.succeed(f"runuser -u {user} -- {RUN} --json {NEIGHBOUR} -- probe {WORD}"))
    assert answer["status"] == "ok", answer
    found: dict[str, bool] = json.loads(answer["run"]["stdout"])
    return found


def hold(name: str, user: str, word: str) -> None:
    """A live sandbox of a user, which has said that it holds all that it could make."""
    output = f"/run/vm-tests/{name}"
    machine.succeed(f"systemd-run --quiet --collect --unit={name} -p User={user} -p StandardOutput=truncate:{output} --setenv=PATH=$PATH "
                    f"/usr/bin/env {RUN} {NEIGHBOUR} -- hold {word}")
    machine.wait_until_succeeds(f"grep -q held {output} || ! systemctl is-active --quiet {name}")
    t.assertEqual(machine.succeed(f"cat {output}"), "held\n")


# So many at one time, and no self-tests in between.
config = configuration(machine)
config["service"] |= {"concurrency": 4, "check_at_start": False}
configure(machine, config)

with subtest("the control: without a sandbox between them, everything is found"):
    control = json.loads(machine.succeed(program("neighbour.py", "both", WORD)))
    t.assertEqual([name for name, found in control.items() if not found], [])

hold("holder", "client", WORD)

with subtest("another user's sandbox finds nothing of it, nor does one of the same user"):
    for user in ("neighbour", "client"):
        found = found_by(user)
        t.assertEqual(sorted(found), sorted(control))
        t.assertEqual([name for name, seen in found.items() if seen], [], user)

with subtest("each has user ids and a cgroup of its own"):
    hold("second", "neighbour", f"{WORD}-2")
    # Those that wait for requests are there as well, and no exception.
    leaves = [line.split() for line in machine.succeed(LEAVES).splitlines()]
    uids = [uid for leaf in leaves for uid in leaf]
    assert len(leaves) >= 2 and all(leaves) and len(uids) == len(set(uids)), leaves
    first = int(machine.succeed("sed -n s/^codesandbox-launcher://p /etc/subuid").split(":")[0])
    assert all(int(uid) >= first for uid in uids), leaves

with subtest("no signal reaches the other"):
    t.assertEqual(machine.succeed(f"{RUN} {NEIGHBOUR} -- kill {WORD}"), "after\n")
    machine.succeed("systemctl is-active holder.service second.service")
    # The control: root, outside, has both of them by one signal.
    machine.succeed("find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs' -exec cat {} + | xargs kill -KILL")
    for name in ("holder", "second"):
        machine.wait_until_fails(f"systemctl is-active --quiet {name}.service")
