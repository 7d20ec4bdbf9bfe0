"""Under systemd, limits are held by cgroup v2 leaves: each verdict, exact usage, leaves used again.

Of sandboxes that are made for their job; `parked_and_warm` has those that wait for it.
"""

from codesandbox_vm import begin_jobs, bound, end_jobs, have_none_wait, health, leftovers, python, run_jobs

MEMORY_BOMB = "blocks = []\nwhile True: blocks.append(bytearray(1 << 20))"
# Each child stays far below the limit; only their sum is above it.
MEMORY_SPREAD = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(16 << 20)
        time.sleep(60)
time.sleep(60)
"""
DISK_AS_MEMORY = """
with open('/tmp/filler', 'wb') as file:
    while True: file.write(bytes(1 << 20))
"""
FORK_BOMB = """
import os
while True:
    if os.fork() == 0:
        import time
        time.sleep(60)
"""
# No process alone uses more than a second.
CPU_SPREAD = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        while time.process_time() < 60: pass
for _ in range(4): os.wait()
"""
COSTS = """
import time
block = bytearray(100 << 20)
while time.process_time() < 1.0: pass
"""
# Spins for so long by the clock, whatever it is given meanwhile.
SPIN = """
import time
end = time.monotonic() + 4
while time.monotonic() < end: pass
"""
# Says when it begins and when it ends, five seconds later.
COUNT = """
import sys, time
print('begun', flush=True)
for _ in range(100):
    time.sleep(0.05)
print('done')
"""
# Takes so many MiB, or tells in which sandbox it is.
JUDGED = """
import os, sys
command = sys.stdin.read()
if command == 'where':
    print(os.readlink('/proc/self/ns/pid'))
else:
    block = bytearray(int(command) << 20)
    print('done')
"""
# Fills shared memory of System V, and leaves it to whoever ends the namespace.
SEGMENTS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
size = 40 << 20
segment = libc.shmget(0, ctypes.c_size_t(size), 0o1600)
assert segment >= 0, ctypes.get_errno()
ctypes.memset(ctypes.c_void_p(libc.shmat(segment, None, 0)), 1, size)
print('done')
"""
LEAVES = "find /sys/fs/cgroup -name 'leaf-*' | sort"
# Groups that hold a process.
BUSY = "grep -lx 'populated 1' $(find /sys/fs/cgroup -path '*/leaf-*/cgroup.events') /dev/null | xargs -r -n1 dirname"

mebibytes = 1 << 20
machine.succeed(health())
have_none_wait(machine)

with subtest("memory: of one process, of many together, and of files; all are killed together"):
    limits = {"memory_bytes": 64 * mebibytes}
    hello, alone, spread, disk = run_jobs(
        machine,
        python("print('hello')", limits=limits),
        python(MEMORY_BOMB, limits=limits),
        python(MEMORY_SPREAD, limits=limits),
        python(DISK_AS_MEMORY, limits=limits),
    )
    assert hello["run"]["status"] == "ok" and hello["run"]["stdout"] == "hello\n", hello
    assert hello["limits"]["enforced_by"] == "cgroup2", hello
    for answer in (alone, spread, disk):
        assert answer["run"]["status"] == "memory_exceeded", answer
        assert answer["run"]["usage"]["memory_peak_bytes"] <= 64 * mebibytes, answer
    # It was the kernel's killer, and in a sandbox's group: the host had memory left.
    machine.succeed("journalctl --sync; journalctl --dmesg --no-pager | grep -q 'oom-kill:constraint=CONSTRAINT_MEMCG'")
    machine.fail("journalctl --dmesg --no-pager | grep 'oom-kill:constraint=CONSTRAINT_NONE'")

with subtest("processes, and processor time of many together"):
    bomb, cpu = run_jobs(
        machine,
        python(FORK_BOMB, limits={"processes": 16}),
        python(CPU_SPREAD, limits={"cpu_time_ms": 3_000, "cpu_millis": 2_000}),
    )
    assert bomb["run"]["status"] == "processes_exceeded", bomb
    assert bomb["run"]["usage"]["processes_peak"] == 16, bomb
    assert cpu["run"]["status"] == "cpu_time_exceeded", cpu
    assert 3_000 <= cpu["run"]["usage"]["cpu_time_ms"] < 6_000, cpu

with subtest("the share of the processors"):
    quarter, whole = run_jobs(
        machine,
        python(SPIN, limits={"cpu_millis": 250}),
        python(SPIN, limits={"cpu_millis": 1_000}),
    )
    for answer in (quarter, whole):
        assert answer["run"]["status"] == "ok", answer
    share = [one["run"]["usage"]["cpu_time_ms"] / one["run"]["usage"]["wall_time_ms"] for one in (quarter, whole)]
    # A period of 100 ms that has begun is paid in full.
    assert share[0] < 0.30 < 0.50 < share[1], share

with subtest("usage is exact, and a leaf that is used again remembers nothing"):
    costs, small = run_jobs(machine, python(COSTS), python("print('small')"))
    used = costs["run"]["usage"]
    assert 1_000 <= used["cpu_time_ms"] < 4_000, used
    assert 100 * mebibytes <= used["memory_peak_bytes"] < 140 * mebibytes, used
    assert used["processes_peak"] == 1, used
    assert small["run"]["usage"]["memory_peak_bytes"] < 50 * mebibytes, small
    assert small["run"]["usage"]["cpu_time_ms"] < used["cpu_time_ms"], (small, used)
    before = machine.succeed(LEAVES)
    run_jobs(machine, *[python("print('again')")] * 4)
    t.assertEqual(before, machine.succeed(LEAVES))

with subtest("cases of a judging that share a sandbox are held and counted each for itself"):
    # Where an interpreter may wait that has started already, a case takes that.
    bound(machine, warm=False)
    sizes = [1, 40, 1, 200, 1, 40, 1, 1, 200, 1]
    cases = [{"stdin": str(size), "expected": "done"} for size in sizes] + [{"stdin": "where", "expected": "?"}] * 4
    job = python(JUDGED, limits={"memory_bytes": 64 * mebibytes}) | {"tests": {"cases": cases}}
    judged, = run_jobs(machine, job)
    *sized, _, _, _, _ = judged["tests"]["cases"]
    for size, case in zip(sizes, sized, strict=True):
        peak = case["run"]["usage"]["memory_peak_bytes"]
        if size > 64:
            assert case["verdict"] == "memory_limit_exceeded" and peak <= 64 * mebibytes, case
        else:
            assert case["verdict"] == "accepted" and size * mebibytes <= peak < (size + 20) * mebibytes, case
    places = {case["difference"]["printed"]["data"] for case in judged["tests"]["cases"][-4:]}
    # Control: as many as run at one time, and no more.
    assert len(places) <= 2, judged

with subtest("shared memory that the kernel has yet to free is not charged to the next program"):
    # Twice as much would be too much: of jobs, and of cases that share a sandbox.
    limits = {"memory_bytes": 64 * mebibytes}
    for answer in run_jobs(machine, *[python(SEGMENTS, limits=limits)] * 12):
        assert answer["run"]["status"] == "ok" and answer["run"]["stdout"] == "done\n", answer
    judged, = run_jobs(machine, python(SEGMENTS, limits=limits) | {"tests": {"cases": [{"expected": "done"}] * 40}})
    assert judged["tests"]["verdict"] == "accepted", judged
    for case in judged["tests"]["cases"]:
        assert case["run"]["usage"]["memory_peak_bytes"] >= 40 * mebibytes, case

with subtest("a sandbox that is frozen stands still, goes on when it is thawed, and can be ended as it is"):
    # Small, so that the guest's memory is enough for both at one time.
    count = {"memory_bytes": 128 * mebibytes}
    begin_jobs(machine, "frozen", python(COUNT, limits=count), python(COUNT, limits=count | {"wall_time_ms": 15_000}))
    groups = machine.wait_until_succeeds(f"test $({BUSY} | wc -l) = 2 && {BUSY}").split()
    machine.succeed(*(f"echo 1 > {group}/cgroup.freeze" for group in groups))
    for group in groups:
        machine.wait_until_succeeds(f"grep -qx 'frozen 1' {group}/cgroup.events")
    usage = machine.succeed(*(f"grep usage_usec {group}/cpu.stat" for group in groups))
    machine.sleep(2)
    t.assertEqual(usage, machine.succeed(*(f"grep usage_usec {group}/cpu.stat" for group in groups)))
    # The time of the tighter one is up while both are frozen.
    machine.wait_until_succeeds(f"test $({BUSY} | wc -l) = 1")
    machine.succeed(*(f"test ! -d {group} || echo 0 > {group}/cgroup.freeze" for group in groups))
    answers = sorted((one["body"]["run"] for one in end_jobs(machine, "frozen")), key=lambda run: run["status"])
    t.assertEqual([run["status"] for run in answers], ["ok", "wall_time_exceeded"])
    t.assertEqual(answers[0]["stdout"], "begun\ndone\n")
    t.assertNotIn("done", answers[1]["stdout"])

# The daemon, and every client, survived all of it; and the next program is not affected.
again, = run_jobs(machine, python("print('again')"))
assert again["run"]["stdout"] == "again\n" and again["run"]["usage"]["processes_peak"] == 1, again
machine.succeed("systemctl is-active codesandboxd.service codesandbox-launcher.service")

# Leaves wait for their next sandbox, empty, as long as the launcher runs, and go with it.
machine.succeed(f"test -z \"$({BUSY})\"")
assert any("leaf-" in line for line in leftovers(machine))
