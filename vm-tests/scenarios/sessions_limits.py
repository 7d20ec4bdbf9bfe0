"""A session is one group with a leaf for each program: both are held to their limits, stopped, and removed."""

from codesandbox_vm import (
    UNIT, Answer, Session, ask, configuration, configure, have_none_wait, health, session_groups,
)

MEBIBYTE = 1 << 20
MEMORY = 128 * MEBIBYTE
MEMORY_BOMB = "blocks = []\nwhile True: blocks.append(bytearray(1 << 20))"
# Too much for the session only where another does the same.
HALF = "import time\nblock = bytearray(80 << 20)\nprint('has it', flush=True)\nwhile True: time.sleep(1)"
# Children go with their parent, since others are to run in the session afterwards.
FORK_BOMB = """
import os
reader, writer = os.pipe()
while True:
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
"""
# Says that it is there until it is told to stop.
TICKS = """
import os, time
while not os.path.exists('/workspace/stop'):
    print('tick', flush=True)
    time.sleep(0.1)
print('done')
"""
SPIN = "import time\nend = time.monotonic() + 4\nwhile time.monotonic() < end: pass"
COSTS = "import time\nblock = bytearray(40 << 20)\nwhile time.process_time() < 1.0: pass"
# Two children that are never waited for, and go on behind their parent.
BEHIND = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 600
        while time.monotonic() < end: pass
time.sleep(3)
"""
# Two files that are never further apart than one step.
WRITER = """
import itertools
with open('/workspace/a', 'w') as a, open('/workspace/b', 'w') as b:
    print('writes', flush=True)
    for step in itertools.count():
        for file in (a, b):
            file.seek(0)
            file.write(f'{step:09}')
            file.flush()
"""
# Everything that the runtimes are, which no program has open.
READER = """
import os
for place, _, names in os.walk('/nix/store'):
    for path in (os.path.join(place, name) for name in names):
        if os.path.isfile(path):
            with open(path, 'rb', buffering=0) as file:
                while file.read(1 << 16): pass
"""


def in_force(session: Session, below: str = "") -> list[str]:
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "memory.oom.group")
    return session.of_group(f"{{{','.join(names)}}}", below).split("\n")


def states_of(session: Session, numbers: list[int]) -> list[str]:
    return [session.asked("GET", f"/execs/{number}")["state"] for number in numbers]


def says(session: Session, number: int) -> None:
    """Waits until a program has said that it is there."""
    retry(lambda last: session.asked("GET", f"/execs/{number}")["stdout"]["next"] > 0, timeout=200)


def share(session: Session, *numbers: int) -> float:
    """What programs together had of one processor."""
    usages = [session.ended(number)["usage"] for number in numbers]
    return float(sum(used["cpu_time_ms"] for used in usages) / max(used["wall_time_ms"] for used in usages))


def ends_with(session: Session, number: int) -> Answer:
    session.run("bash", "-c", "echo > stop")
    result = session.ended(number)
    session.asked("DELETE", "/fs/file?path=stop", code=204)
    return result


def new(**limits: int) -> Session:
    times = {"wall_time_ms": 600_000, "cpu_time_ms": 600_000}
    return Session(machine, limits=times | {"memory_bytes": MEMORY, "disk_bytes": 16 * MEBIBYTE} | limits)


def cpu_us(session: Session) -> int:
    return int(session.of_group("cpu.stat").split()[1])


config = configuration(machine)
# Nothing is to be paused but by request.
config["sessions"]["pause_after_ms"] = 0
configure(machine, config)
machine.succeed(health())
have_none_wait(machine)
t.assertEqual(session_groups(machine), [])

with subtest("one group for the session, and a leaf for each program, each with its own limits"):
    session = new(processes=24, cpu_millis=1_500)
    t.assertEqual(in_force(session), [str(MEMORY), "0", "24", "150000 100000", "0"])
    ticks = session.begin("python", "-c", TICKS)
    other = session.begin("python", "-c", TICKS, limits={"memory_bytes": 32 * MEBIBYTE, "processes": 5, "cpu_millis": 500})
    leaves = machine.succeed(f"grep -l . {session.group}/exec-*/cgroup.procs").split()
    # One more waits for the next request, as soon as there is time for it.
    assert len(leaves) in (2, 3), leaves
    limits = [in_force(session, leaf.split("/")[-2] + "/") for leaf in leaves]
    assert [str(32 * MEBIBYTE), "0", "5", "50000 100000", "1"] in limits, limits
    assert [str(MEMORY), "0", "24", "150000 100000", "1"] in limits, limits
    session.asked("DELETE", f"/execs/{other}", code=204)

with subtest("memory of one program: it ends, and the others go on"):
    bomb = session.run("python", "-c", MEMORY_BOMB, limits={"memory_bytes": 48 * MEBIBYTE})
    t.assertEqual(bomb["status"], "memory_exceeded")
    assert 47 * MEBIBYTE < bomb["usage"]["memory_peak_bytes"] <= 48 * MEBIBYTE, bomb

with subtest("memory of all together: one of them ends, and the others go on"):
    halves = [session.begin("python", "-c", HALF)]
    machine.wait_until_succeeds(f"[ $(cat {session.group}/memory.current) -gt {80 * MEBIBYTE} ]", timeout=200)
    halves.append(session.begin("python", "-c", HALF))
    retry(lambda last: "finished" in states_of(session, halves), timeout=200)
    states = [session.asked("GET", f"/execs/{number}") for number in halves]
    t.assertEqual(sorted(one["state"] for one in states), ["finished", "running"])
    ended, = (one for one in states if one["state"] == "finished")
    t.assertEqual(ended["result"]["status"], "memory_exceeded")
    assert int(session.of_group("memory.peak")) <= MEMORY
    for number in halves:
        session.asked("DELETE", f"/execs/{number}", code=204)
    machine.succeed("journalctl --sync; journalctl --dmesg --no-pager | grep -q 'oom-kill:constraint=CONSTRAINT_MEMCG'")
    machine.fail("journalctl --dmesg --no-pager | grep 'oom-kill:constraint=CONSTRAINT_NONE'")

with subtest("processes: of one program, and of all together"):
    bomb = session.run("python", "-c", FORK_BOMB, limits={"processes": 8})
    t.assertEqual([bomb["status"], bomb["usage"]["processes_peak"]], ["processes_exceeded", 8])
    bomb = session.run("python", "-c", FORK_BOMB)
    t.assertEqual(bomb["status"], "processes_exceeded")
    assert 12 <= bomb["usage"]["processes_peak"] < 24, bomb
    t.assertEqual(session.of_group("pids.peak"), "24")
    # Who was there all the time is none the worse for it.
    survivor = ends_with(session, ticks)
    assert survivor["status"] == "ok" and survivor["stdout"].endswith("tick\ndone\n"), survivor
    session.asked("DELETE", code=204)
    t.assertEqual(session_groups(machine), [])

with subtest("the processors' time, of all programs together"):
    quarter, whole = new(cpu_millis=250), new(cpu_millis=1_000)
    held = share(quarter, *[quarter.begin("python", "-c", SPIN) for _ in range(2)])
    free = share(whole, *[whole.begin("python", "-c", SPIN) for _ in range(2)])
    assert held < 0.35 < 0.60 < free, (held, free)
    quarter.asked("DELETE", code=204)
    whole.asked("DELETE", code=204)

with subtest("usage is the program's own, and what it left behind is counted as the session's"):
    session = new()
    used = session.run("python", "-c", COSTS)["usage"]
    assert 1_000 <= used["cpu_time_ms"] < 3_000, used
    assert 40 * MEBIBYTE <= used["memory_peak_bytes"] < 70 * MEBIBYTE and used["processes_peak"] == 1, used
    small = session.run("bash", "-c", "echo small")["usage"]
    assert small["cpu_time_ms"] < used["cpu_time_ms"] and small["memory_peak_bytes"] < 20 * MEBIBYTE, small
    used = session.run("python", "-c", BEHIND)["usage"]
    assert used["processes_peak"] == 3 and used["cpu_time_ms"] > 1_000, used
    before = cpu_us(session)
    machine.wait_until_succeeds(f"[ $(sed -n 's/usage_usec //p' {session.group}/cpu.stat) -gt {before + 500_000} ]",
                                timeout=200)

with subtest("a pause stops all of it, and the next call has it go on"):
    t.assertEqual(session.asked("POST", "/pause")["status"], "paused")
    machine.wait_until_succeeds(f"grep -qx 'frozen 1' {session.group}/cgroup.events", timeout=100)
    before = cpu_us(session)
    machine.sleep(2)
    t.assertEqual(cpu_us(session), before)
    # To look at it is no use of it.
    t.assertEqual(session.asked("GET")["status"], "paused")
    t.assertEqual(session.run("bash", "-c", "echo awake")["stdout"], "awake\n")
    t.assertEqual(session.asked("GET")["status"], "active")
    machine.wait_until_succeeds(f"grep -qx 'frozen 0' {session.group}/cgroup.events", timeout=100)
    machine.wait_until_succeeds(f"[ $(sed -n 's/usage_usec //p' {session.group}/cpu.stat) -gt {before + 500_000} ]",
                                timeout=200)

with subtest("one that is deleted while it is paused is gone at once, with all that was in it"):
    session.asked("POST", "/pause")
    session.asked("DELETE", code=204)
    t.assertEqual(session_groups(machine), [])

with subtest("what a pause can do without is given back"):
    session = new(memory_bytes=256 * MEBIBYTE)
    machine.succeed("sync; echo 3 > /proc/sys/vm/drop_caches")
    t.assertEqual(session.run("python", "-c", READER)["status"], "ok")
    before = int(session.of_group("memory.current"))
    files = int(machine.succeed(f"sed -n 's/^file //p' {session.group}/memory.stat"))
    assert files > 4 * MEBIBYTE, f"only {files} bytes of file cache to give back"
    session.asked("POST", "/pause")
    machine.wait_until_succeeds(f"[ $(cat {session.group}/memory.current) -lt {before - files // 2} ]", timeout=200)
    print(f"paused: {before >> 10} KiB, of these {files >> 10} of files, became {session.of_group('memory.current')} B")
    session.asked("DELETE", code=204)

with subtest("a snapshot while a program writes has what was there at one moment"):
    session = new()
    number = session.begin("python", "-c", WRITER)
    says(session, number)
    retry(lambda last: len(session.asked("GET", "/fs/file?path=b")) > 0, timeout=200)
    for _ in range(3):
        snapshot = session.asked("POST", "/snapshots", code=201)["id"]
        fork, = ask(machine, ("POST", f"{session.path}/fork", {"snapshot": snapshot}))
        assert fork["code"] == 201, fork
        path = f"/v1/sessions/{fork['body']['id']}"
        a, b, gone = ask(machine, ("GET", f"{path}/fs/file?path=a"), ("GET", f"{path}/fs/file?path=b"), ("DELETE", path))
        steps = [int(a["body"]), int(b["body"])]
        assert steps[0] - steps[1] in (0, 1) and gone["code"] == 204, steps
        print(f"a snapshot has {steps}")
    # It went on all the time.
    t.assertEqual(session.asked("GET", f"/execs/{number}")["state"], "running")
    last = int(session.asked("GET", "/fs/file?path=b"))
    assert last > steps[1], (last, steps)
    session.asked("DELETE", f"/execs/{number}", code=204)

with subtest("processors of its own, and given back"):
    everything = machine.succeed(f"cat {UNIT}/cpuset.cpus.effective").strip()
    assert everything != "0", "one processor is too few to tell"
    number = session.begin("python", "-c", TICKS)
    t.assertEqual(session.asked("POST", "/promote", {"cpus": [0]})["cpus"], [0])
    t.assertEqual([session.of_group("cpuset.cpus"), session.of_group("cpuset.cpus.effective")], ["0", "0"])
    allowed = "import os; print(sorted(os.sched_getaffinity(0)))"
    t.assertEqual(session.run("python", "-c", allowed)["stdout"], "[0]\n")
    refused = session.asked("POST", "/promote", {"cpus": [0, 77]}, code=409)
    assert "processor 77" in refused["detail"], refused
    t.assertEqual(session.of_group("cpuset.cpus"), "0")
    t.assertEqual(session.asked("POST", "/demote")["cpus"], None)
    t.assertEqual([session.of_group("cpuset.cpus"), session.of_group("cpuset.cpus.effective")], [everything, everything])
    assert session.run("python", "-c", allowed)["stdout"] != "[0]\n"
    t.assertEqual(ends_with(session, number)["status"], "ok")

with subtest("no group is left of a session that is deleted"):
    t.assertEqual(session.run("python", "-c", BEHIND)["status"], "ok")
    session.asked("DELETE", code=204)
    t.assertEqual(session_groups(machine), [])
    t.assertEqual(ask(machine, ("GET", "/v1/sessions"))[0]["body"]["sessions"], [])
