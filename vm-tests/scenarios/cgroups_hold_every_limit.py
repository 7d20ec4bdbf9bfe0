"""Under systemd, limits are held by cgroup v2 leaves: each verdict, exact usage, nothing left behind."""

from lib.client import python, run_jobs
from lib.install import install_codesandbox

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
LEAVES = "find /sys/fs/cgroup -name 'leaf-*' | wc -l"
IN_LEAVES = "find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs' -exec cat {} + | wc -l"


def run(machine):
    install_codesandbox(machine)
    mebibytes = 1 << 20
    limits = {"memory_bytes": 64 * mebibytes}
    hello, alone, spread, disk, bomb, cpu, costs = run_jobs(
        machine,
        python("print('hello')"),
        python(MEMORY_BOMB, limits=limits),
        python(MEMORY_SPREAD, limits=limits),
        python(DISK_AS_MEMORY, limits=limits),
        python(FORK_BOMB, limits={"processes": 16}),
        python(CPU_SPREAD, limits={"cpu_time_ms": 3_000, "cpu_millis": 2_000}),
        python(COSTS),
    )
    assert hello["run"]["status"] == "ok" and hello["run"]["stdout"] == "hello\n", hello
    assert hello["limits"]["enforced_by"] == "cgroup2", hello
    for answer in (alone, spread, disk):
        assert answer["run"]["status"] == "memory_exceeded", answer
    assert bomb["run"]["status"] == "processes_exceeded", bomb
    assert bomb["run"]["usage"]["processes_peak"] == 16, bomb
    assert cpu["run"]["status"] == "cpu_time_exceeded", cpu
    assert 3_000 <= cpu["run"]["usage"]["cpu_time_ms"] < 6_000, cpu
    used = costs["run"]["usage"]
    assert 1_000 <= used["cpu_time_ms"] < 4_000, used
    assert 100 * mebibytes <= used["memory_peak_bytes"] < 140 * mebibytes, used
    assert used["processes_peak"] == 1, used

    # The daemon, and every client, survived all of it; and the next program is not affected.
    again, = run_jobs(machine, python("print('again')"))
    assert again["run"]["stdout"] == "again\n" and again["run"]["usage"]["processes_peak"] == 1, again
    machine.succeed("systemctl is-active codesandboxd.service codesandbox-launcher.service")

    assert int(machine.succeed(LEAVES)) > 0 and int(machine.succeed(IN_LEAVES)) == 0
    machine.succeed("systemctl stop codesandboxd.socket codesandboxd.service")
    machine.wait_until_succeeds("test -z \"$(pgrep --full '[m]ain.py')\"")
    machine.succeed("systemctl stop codesandbox-launcher.socket codesandbox-launcher.service")
    assert int(machine.succeed(LEAVES)) == 0
    assert "/workspace" not in machine.succeed("findmnt --list --noheadings --output TARGET")
