"""Whatever of the service is killed, and whenever: it answers again at once, and nothing is left behind."""

import json
import random
import shlex

from codesandbox_vm import (
    Answer, add_language, bash, configuration, configure, have_none_wait, leftovers, program, python, run_jobs,
)

SOCKET = "/run/codesandbox/api.sock"
ROUNDS = 1
TICKS = 20
# Ticks while it compiles, ticks while it runs, and then leaves so much that collecting it takes its time.
COMPILER = f"for ((i = 0; i < {TICKS}; i++)); do echo tick; sleep 0.05; done"
PROGRAM = f"""
sleep 600 &
for ((i = 0; i < {TICKS}; i++)); do echo tick; sleep 0.05; done
printf -v block '%*s' 20000 ''
for ((i = 0; i < 50; i++)); do echo "$block" > file-$i; done
echo last
"""
JOB = {
    "runtime": "compiled", "files": [{"content": PROGRAM}], "outputs": ["file-*"],
    "limits": {"wall_time_ms": 60_000}, "compile_limits": {"wall_time_ms": 60_000},
}
VICTIMS = [["launcher"], ["stub"], ["daemon"], ["daemon", "launcher"], ["launcher", "daemon"], ["group"]]
LAUNCHER = "codesandbox-launcher.service"
RELOAD = "systemctl reload codesandboxd.service"
HOG = "block = bytearray(400 << 20)"


def strike(event: str, count: int, victims: list[str]) -> None:
    """A round: the job, its victims at the moment of the COUNTth EVENT, and what is to hold afterwards."""
    command = program("break_off.py", SOCKET, event, str(count), *victims)
    facts: Answer = json.loads(machine.succeed(f"echo {shlex.quote(json.dumps(JOB))} | {command}"))
    assert facts["struck"], facts
    t.assertEqual(facts["next"], ["ok", "hello\n"])
    if "daemon" not in victims:
        # Who asked hears of it, unless the job had ended before; and is asked to come again, not told why.
        last = facts["last"]
        assert last["event"] in ("failed", "finished"), facts
        assert last["event"] == "finished" or last["problem"]["status"] in (500, 503), facts
    nothing_is_left()


def nothing_is_left() -> None:
    """While the service goes on: no program, no mount, no file. What was killed may take a moment to go.

    What waits for requests is there when things are killed, and let go before it is looked for what is left.
    """
    have_none_wait(machine)

    def gone(last: bool) -> bool:
        found = [line for line in leftovers(machine) if not is_the_services_own(line)]
        assert not (last and found), "left behind:\n" + "\n".join(found)
        return not found

    retry(gone, timeout=60)
    configure(machine, config)
    machine.succeed(RELOAD)


def is_the_services_own(line: str) -> bool:
    """Leaves that wait for the next sandbox, the sockets, and the launcher, which sees processes of its own alone.

    Sandboxes have other ids than the launcher, their first process included.
    """
    kind = line.split()[0]
    return (kind == "cgroup" or (kind == "file" and line.endswith(".sock"))
            or (kind == "process" and f" of user {launcher_user}: " in line))


launcher_user = int(machine.succeed("id -u codesandbox-launcher"))
config = configuration(machine)
# Self-tests would be more sandboxes, and no one's.
config["service"]["check_at_start"] = False
config["pool"] |= {"floor": 0, "ceiling": 2, "runtimes": {}}
add_language(machine, config, "compiled", COMPILER)
configure(machine, config)
run_jobs(machine, bash("echo hello"))

with subtest("control: left alone, the job ends in full"):
    whole, = run_jobs(machine, JOB)
    t.assertEqual([whole["compile"]["status"], whole["status"], len(whole["files"])], ["ok", "ok", 50])
    t.assertEqual(whole["run"]["stdout"], "tick\n" * TICKS + "last\n")

for moment, event, count, victims in (
    ("a sandbox is being made", '"started"', 1, ["launcher"]),
    ("a sandbox is being made", '"started"', 1, ["daemon"]),
    ("a compile runs", "tick", TICKS // 2, ["stub"]),
    ("outputs are collected", "last", 1, ["launcher"]),
    ("outputs are collected", "last", 1, ["daemon"]),
    ("output streams", "tick", TICKS + TICKS // 2, ["daemon", "launcher"]),
    ("output streams", "tick", TICKS + TICKS // 2, ["group"]),
):
    with subtest(f"killed while {moment}: {' and '.join(victims)}"):
        strike(event, count, victims)

# What a failed run drew is in the driver's log.
for number in range(ROUNDS):
    count, victims = random.randint(1, 2 * TICKS), random.choice(VICTIMS)
    with subtest(f"round {number}: killed at tick {count} of {2 * TICKS}: {' and '.join(victims)}"):
        strike("tick", count, victims)

with subtest("sandboxes that the launcher's own group has no memory for are killed, and not the launcher"):
    before = machine.get_unit_property(LAUNCHER, "MainPID")
    machine.succeed(f"systemctl set-property --runtime {LAUNCHER} MemoryMax=150M")
    hog, = run_jobs(machine, python(HOG, limits={"memory_bytes": 500 << 20}))
    t.assertEqual(hog["run"]["status"], "memory_exceeded")
    hello, = run_jobs(machine, bash("echo hello"))
    t.assertEqual(hello["run"]["stdout"], "hello\n")
    t.assertEqual(machine.get_unit_property(LAUNCHER, "MainPID"), before)
    nothing_is_left()
