"""A job in a sandbox that waited is held and counted as any other; what waits is bounded, and goes in time."""

from codesandbox_vm import (
    Answer, add_language, bash, bound, configuration, configure, health, python, run_jobs, waiting,
)

MEBIBYTE = 1 << 20
MEMORY = 64 * MEBIBYTE
LAUNCHER = "codesandbox-launcher.service"
# The program's own time and memory, whatever its interpreter took before.
COSTS = """
import time
block, began = bytearray(30 << 20), time.process_time()
while time.process_time() - began < 1.0: pass
"""
MEMORY_BOMB = "blocks = []\nwhile True: blocks.append(bytearray(1 << 20))"
FORK_BOMB = "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)"
LOOP = "while True: pass"
# Less than the limit by less than an interpreter takes to start.
NEARLY = """
import time
began = time.process_time()
while time.process_time() - began < 1.8: pass
"""
SLEEP = "import time\ntime.sleep(60)"
LIMITS = "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
# Many processes and much memory while it compiles, one and little while it runs.
COMPILER = "for ((i = 0; i < 12; i++)); do sleep 1 & done; printf -v block '%*s' 20000000 ''; wait"
TWO_STAGES = {
    "runtime": "compiled", "files": [{"content": "echo ran"}],
    "limits": {"wall_time_ms": 60_000}, "compile_limits": {"wall_time_ms": 60_000},
}
HELLO = bash("echo hello")
FLOORS = {"python": 2, "bash": 1, "compiled": 1}


def ran(job: Answer, path: str) -> Answer:
    """The run stage of a job, which must come by its sandbox in this way."""
    answer, = run_jobs(machine, job)
    assert answer["path"] == path and answer["retries"] == 0, answer
    run: Answer = answer["run"]
    return run


def settled(warm: int = FLOORS["python"]) -> list[Answer]:
    """What waits, as soon as all do that shall, and their interpreters are ready."""
    expected = sorted(["warm"] * warm + ["parked"] * (sum(FLOORS.values()) - warm))
    found: list[Answer] = []

    def is_so(last: bool) -> bool:
        found[:] = waiting(machine)
        kinds = sorted(one["kind"] for one in found)
        assert not last or kinds == expected, found
        return kinds == expected

    retry(is_so, timeout=60)
    return found


def pids(sandboxes: list[Answer]) -> list[int]:
    return [one[who]["pid"] for one in sandboxes for who in ("init", "program")]


def all_are_gone(old: list[int]) -> None:
    machine.wait_until_fails(f"ls -d {' '.join(f'/proc/{pid}' for pid in old)} 2>/dev/null | grep .", timeout=20)


def runtime_id(answer: Answer) -> str:
    used = answer["runtime"]
    return "-".join(filter(None, (used["language"], used["version"])))


config = configuration(machine)
config["service"]["check_at_start"] = False
default = config["profiles"]["default"]
default["run"]["memory_bytes"] = MEMORY
config["pool"] |= {"warm": True, "floor": 0, "ceiling": 0, "runtimes": {}}
add_language(machine, config, "compiled", COMPILER)
configure(machine, config)
machine.succeed(health())

with subtest("the control: where none may wait, none does, and sandboxes are made for their jobs"):
    first = run_jobs(machine, python("print('hello')"), HELLO, TWO_STAGES)
    t.assertEqual([answer["path"] for answer in first], ["cold"] * 3)
    t.assertEqual(waiting(machine), [])
    assert first[0]["limits"]["enforced_by"] == "cgroup2", first

own = {runtime_id(answer): {"floor": FLOORS[answer["runtime"]["language"]]} for answer in first}
# Nothing but floors: what was asked for before is forgotten at once.
on = {"ceiling": 2, "idle_ms": 0, "runtimes": own}

with subtest("with floors they wait, and jobs get them"):
    bound(machine, **on)
    for job, path in ((python("print('hello')"), "warm"), (HELLO, "parked"), (TWO_STAGES, "parked")):
        settled()
        assert ran(job, path)["status"] == "ok"
    settled()

with subtest("what waits lies in leaves of its own below the launcher's group, with the profile's limits in force"):
    found = settled()
    first_id = int(machine.succeed("sed -n s/^codesandbox-launcher://p /etc/subuid").split(":")[0])
    unit = machine.get_unit_property(LAUNCHER, "ControlGroup")
    limits = {
        "memory.max": str(MEMORY), "memory.swap.max": "0", "memory.oom.group": "1",
        "pids.max": str(default["run"]["processes"]), "cpu.max": f"{default['run']['cpu_millis'] * 100} 100000",
    }
    for one in found:
        init, waits = one["init"], one["program"]
        t.assertEqual({name: one["limits"][name] for name in limits}, limits)
        t.assertEqual(one["leaf"].rsplit("/", 1)[0], unit)
        t.assertEqual([one["launcher"], init["group"]], [f"{unit}/supervisor"] * 2)
        assert waits["uid"] >= first_id and (waits["capabilities"], waits["seccomp"]) == (0, "2"), one
    for facts in ([one["leaf"] for one in found], [one["program"]["uid"] for one in found]):
        t.assertEqual(len(facts), len(set(facts)))

with subtest("what waits is small"):
    for one in found:
        private = one["init"]["private_bytes"] + one["program"]["private_bytes"]
        held = int(one["limits"]["memory.current"])
        print(f"{one['kind']}: init {one['init']['private_bytes'] >> 10} KiB, program "
              f"{one['program']['private_bytes'] >> 10} KiB, leaf {held >> 10} KiB")
        assert max(private, held) < (32 if one["kind"] == "warm" else 4) * MEBIBYTE, one

for path in ("cold", "parked", "warm"):
    bound(machine, **(on if path != "cold" else {"ceiling": 0, "runtimes": {}}), warm=path == "warm")

    def once(source: str, **limits: int) -> Answer:
        if path != "cold":
            settled(FLOORS["python"] if path == "warm" else 0)
        return ran(python(source, limits=limits), path)

    with subtest(f"{path}: usage is the program's own"):
        used = once(COSTS)["usage"]
        print(f"{path}: {used}")
        assert 1_000 <= used["cpu_time_ms"] < 5_000, used
        assert 30 * MEBIBYTE <= used["memory_peak_bytes"] < 50 * MEBIBYTE, used
        assert used["processes_peak"] == 1, used
    with subtest(f"{path}: memory"):
        bomb = once(MEMORY_BOMB)
        assert bomb["status"] == "memory_exceeded", bomb
        assert MEMORY - MEBIBYTE <= bomb["usage"]["memory_peak_bytes"] <= MEMORY, bomb
    with subtest(f"{path}: processes"):
        bomb = once(FORK_BOMB, processes=16)
        assert bomb["status"] == "processes_exceeded" and bomb["usage"]["processes_peak"] == 16, bomb
    with subtest(f"{path}: processor time, of which the interpreter's start is no part"):
        loop = once(LOOP, cpu_time_ms=2_000)
        assert loop["status"] == "cpu_time_exceeded" and 2_000 <= loop["usage"]["cpu_time_ms"] < 5_000, loop
    with subtest(f"{path}: processor time that is nearly used up"):
        # Where the interpreter is started for the job, its start is the job's.
        nearly = once(NEARLY, cpu_time_ms=2_000 if path == "warm" else 4_000)
        assert nearly["status"] == "ok" and 1_800 <= nearly["usage"]["cpu_time_ms"], nearly
    with subtest(f"{path}: time by the clock"):
        late = once(SLEEP, wall_time_ms=1_500)
        assert late["status"] == "wall_time_exceeded" and 1_500 <= late["usage"]["wall_time_ms"] < 6_000, late

with subtest("what a compiler used is not told of the program that it made"):
    settled()
    answer, = run_jobs(machine, TWO_STAGES)
    compiled, run = answer["compile"]["usage"], answer["run"]["usage"]
    print(f"compile: {compiled}\nrun: {run}")
    assert compiled["processes_peak"] >= 12 and compiled["memory_peak_bytes"] > 20 * MEBIBYTE, compiled
    assert run["processes_peak"] == 1 and run["memory_peak_bytes"] < 10 * MEBIBYTE, run

with subtest("a reload retires what was made by another profile, and the next job goes by the new one"):
    before = pids(settled())
    # The control: nothing else does.
    t.assertEqual(sorted(pids(settled())), sorted(before))
    config = configuration(machine)
    for limits_of in ("compile", "run"):
        config["profiles"]["default"][limits_of]["open_files"] = 77
    config["profiles"]["default"]["run"]["processes"] = 40
    configure(machine, config)
    machine.succeed("systemctl reload codesandboxd.service")
    t.assertEqual(run_jobs(machine, python(LIMITS))[0]["run"]["stdout"], "77\n")
    all_are_gone(before)
    t.assertEqual({one["limits"]["pids.max"] for one in settled()}, {"40"})

for who in ("init", "program"):
    with subtest(f"a waiting {who} that is killed is noticed, and the next job runs"):
        python_ones = [one for one in settled() if one["kind"] == "warm"]
        victims = " ".join(str(one[who]["pid"]) for one in python_ones)
        machine.succeed(f"kill -KILL {victims}")
        answer, = run_jobs(machine, python("print('ran')"))
        assert answer["run"]["stdout"] == "ran\n" and answer["retries"] <= 1, answer
        print(f"after a killed {who}: {answer['path']}, {answer['retries']} retries")
        all_are_gone(pids(python_ones))
        machine.succeed("journalctl --sync; journalctl --quiet --output=cat "
                        f"--unit={LAUNCHER} | grep -q 'a parked sandbox of python.* is gone'")
        # Others take their places.
        settled()

for act, command in {
    "restarted": f"systemctl restart {LAUNCHER}",
    "killed": f"systemctl kill --kill-whom=main --signal=KILL {LAUNCHER}",
}.items():
    with subtest(f"a launcher that is {act} leaves none of its own behind, and others wait soon"):
        before = pids(settled())
        machine.succeed(command)
        all_are_gone(before)
        machine.wait_until_succeeds(health())
        again, = run_jobs(machine, HELLO)
        t.assertEqual(again["run"]["stdout"], "hello\n")
        assert not set(pids(settled())) & set(before)

with subtest("where so much memory must stay free that none can wait, none does"):
    before = pids(settled())
    reserve = configuration(machine)["pool"]["reserve_bytes"]
    bound(machine, reserve_bytes=1 << 50)
    all_are_gone(before)
    t.assertEqual([answer["path"] for answer in run_jobs(machine, python("print(1)"), HELLO)], ["cold"] * 2)
    t.assertEqual(waiting(machine), [])
    bound(machine, reserve_bytes=reserve)
    settled()
