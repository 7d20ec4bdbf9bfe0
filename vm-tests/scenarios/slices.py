"""The host stays responsive under 64 hostile jobs at once: the slice bounds what they take together."""

import json
import statistics

from codesandbox_vm import Answer, bash, begin_jobs, configuration, configure, end_jobs, program, run_jobs

JOBS = 64
MEBIBYTE = 1 << 20
BOMB = "bomb() { while :; do bomb & done; }; bomb"
HOG = "block=x; while :; do block+=$block; done"
LOOP = "while :; do :; done"
FILLER = "printf -v block '%*s' 100000 ''; while :; do printf %s \"$block\"; done > /tmp/filler"
FLOOD = "printf -v block '%*s' 100000 ''; while :; do printf %s \"$block\"; done"
# What each may end with; none of them ends by itself. With 64 on two processors, time may be up first.
VERDICTS = {
    BOMB: {"processes_exceeded", "wall_time_exceeded", "cpu_time_exceeded", "memory_exceeded", "output_exceeded"},
    HOG: {"memory_exceeded", "wall_time_exceeded"},
    LOOP: {"cpu_time_exceeded", "wall_time_exceeded"},
    FILLER: {"disk_exceeded", "memory_exceeded", "wall_time_exceeded"},
    FLOOD: {"output_exceeded", "wall_time_exceeded"},
}
KINDS = list(VERDICTS)
LIMITS = {
    "wall_time_ms": 60_000, "cpu_time_ms": 60_000, "memory_bytes": 10 * MEBIBYTE, "processes": 32,
    "disk_bytes": 4 * MEBIBYTE, "file_size_bytes": 64 * MEBIBYTE,
}
# How many times longer than on the idle machine. Half of the host's share is the slice's, so 3 would do if
# nothing else cost time; the control shows what there is without the slice.
MOST_TIMES_LONGER = 8
ROUNDS = 8
# Loops that never rest, beside the probe and not in the slice.
BESIDE = f"for _ in $(seq {JOBS}); do bash -c '{LOOP}' & done > /dev/null 2>&1; trap 'kill $(jobs -p)' EXIT"
SLICE = "/sys/fs/cgroup/codesandbox.slice"
BUSY_LEAVES = "grep -lx 'populated 1' /sys/fs/cgroup/codesandbox.slice/*/leaf-*/cgroup.events | wc -l"


def probe(rounds: int, beside: str = "true") -> Answer:
    figures: Answer = json.loads(machine.succeed(f"{beside}\n{program('probe.py', str(rounds))}"))
    return figures


def typical(figures: Answer) -> float:
    return statistics.median(figures["seconds"])


def of_slice(file: str) -> str:
    return machine.succeed(f"cat {SLICE}/{file}").strip()


config = configuration(machine)
config["service"] |= {"concurrency": JOBS, "check_at_start": False}
# What is counted is to be a job.
config["pool"] |= {"floor": 0, "ceiling": 0, "runtimes": {}}
configure(machine, config)
hello, = run_jobs(machine, bash("echo hello"))
assert hello["status"] == "ok" and hello["limits"]["enforced_by"] == "cgroup2", hello
memory = int(machine.succeed("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) << 10

with subtest("the slice's limits are the kernel's"):
    t.assertEqual(of_slice("cpu.weight"), machine.get_unit_property("codesandbox.slice", "CPUWeight"))
    assert int(of_slice("cpu.weight")) < int(machine.succeed("cat /sys/fs/cgroup/system.slice/cpu.weight"))
    assert 0 < int(of_slice("memory.max")) < memory, of_slice("memory.max")
    assert 0 < int(of_slice("pids.max")) < int(machine.succeed("cat /proc/sys/kernel/threads-max"))

with subtest("64 hostile jobs at once, and the host answers"):
    idle = probe(ROUNDS)
    jobs = [bash(KINDS[number % len(KINDS)], limits=LIMITS) for number in range(JOBS)]
    begin_jobs(machine, "hostile", *jobs)
    # Hogs and floods are gone soon; the rest is there for its whole time.
    machine.wait_until_succeeds(f"[ $({BUSY_LEAVES}) -ge {JOBS // 3} ]", timeout=120)
    loaded = probe(ROUNDS)
    still_there = int(machine.succeed(BUSY_LEAVES))
    assert still_there >= JOBS // 4, f"only {still_there} jobs were left to measure against"

with subtest("every job gets its verdict"):
    for job, answer in zip(jobs, end_jobs(machine, "hostile")):
        source = job["files"][0]["content"]
        assert answer["code"] == 200 and answer["body"]["status"] in VERDICTS[source], (source, answer)

with subtest("the same loops outside of the slice hurt more"):
    outside = probe(2, BESIDE)

times = typical(loaded) / typical(idle)
control = typical(outside) / typical(idle)
machine.log(f"idle {idle}, loaded {loaded}, outside {outside}: {times:.1f} and {control:.1f} times as long")
assert times <= MOST_TIMES_LONGER, f"{times:.1f} times as long as idle"
assert control > times, f"in the slice {times:.1f} times, outside of it {control:.1f} times as long as idle"

with subtest("neither host nor slice ran out of memory"):
    assert loaded["available_bytes"] > memory // 20, loaded
    assert int(of_slice("memory.peak")) < int(of_slice("memory.max"))
    machine.fail("journalctl --dmesg --boot --quiet | grep 'constraint=CONSTRAINT_NONE'")
    machine.succeed("systemctl is-active codesandboxd.service codesandbox-launcher.service")

again, = run_jobs(machine, bash("echo again"))
t.assertEqual(again["run"]["stdout"], "again\n")
