"""Daemon, configuration, or both units are replaced while a job runs: it ends in full, and nobody is turned away."""

import json

from codesandbox_vm import (
    Answer, add_language, bash, begin_jobs, configuration, configure, end_jobs, health, python, run_jobs, write,
)

# A daemon that is told to stop waits for so long, here, where everything takes its time.
STOP_DEADLINE_MS = 60_000
TICKS = 300
# Thirty seconds at least: long enough to be there while something else happens.
LONG = python(f"import time\nfor tick in range({TICKS}):\n    print(tick, flush=True)\n    time.sleep(0.1)")
HELLO = bash("echo hello")
A_PROGRAM_RUNS = "find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs' -exec cat {} + | grep -q ."
NEW_PROGRAM = "/var/lib/new-release/codesandboxd"


def main_pid(unit: str) -> str:
    return machine.get_unit_property(unit, "MainPID")


def begin_long(name: str) -> None:
    begin_jobs(machine, name, LONG)
    machine.wait_until_succeeds(A_PROGRAM_RUNS)


def end_long(name: str) -> None:
    answer, = end_jobs(machine, name)
    assert answer["code"] == 200 and answer["body"]["status"] == "ok", answer
    t.assertEqual(answer["body"]["run"]["stdout"], "".join(f"{tick}\n" for tick in range(TICKS)))


def journal_since(cursor: str) -> str:
    """What an administrator sees who asks for the daemon's messages."""
    return machine.succeed(
        f"journalctl --sync; journalctl --quiet --after-cursor={cursor!r} --unit=codesandboxd.service --output=cat")


def cursor() -> str:
    return machine.succeed("journalctl --sync; journalctl --quiet -n 0 --show-cursor").split("cursor: ")[1].strip()


def profiles() -> Answer:
    answer: Answer = json.loads(machine.succeed(health("/v1/profiles")))
    return answer


config = configuration(machine)
config["service"]["stop_deadline_ms"] = STOP_DEADLINE_MS
# What runs is to be a job.
config["pool"] |= {"floor": 0, "ceiling": 0, "runtimes": {}}
# So that jobs fit beside each other in a small machine.
config["profiles"]["default"]["run"]["memory_bytes"] = 64 << 20
configure(machine, config)
first_answer, = run_jobs(machine, HELLO)
assert first_answer["status"] == "ok", first_answer
launcher = main_pid("codesandbox-launcher.service")
assert launcher != "0"

with subtest("the daemon of a new release takes over: what runs ends in full, who connects meanwhile waits"):
    before = main_pid("codesandboxd.service")
    arguments = machine.succeed(f"tr '\\0' ' ' < /proc/{before}/cmdline").split()[1:]
    machine.succeed(f"mkdir -p $(dirname {NEW_PROGRAM}); cp /proc/{before}/exe {NEW_PROGRAM}; chmod 755 {NEW_PROGRAM}")
    machine.succeed("mkdir -p /run/systemd/system/codesandboxd.service.d")
    write(machine, "/run/systemd/system/codesandboxd.service.d/new.conf",
          f"[Service]\nExecStart=\nExecStart={NEW_PROGRAM} {' '.join(arguments)}")
    machine.succeed("systemctl daemon-reload")
    begin_long("old")
    machine.succeed("systemctl restart --no-block codesandboxd.service")
    machine.wait_until_succeeds("systemctl show --property=ActiveState codesandboxd.service | grep -q =deactivating", timeout=60)
    begin_jobs(machine, "meanwhile", *[HELLO] * 8)
    # The old daemon is still there, and so is its job.
    machine.succeed("systemctl is-active --quiet jobs-old.service", A_PROGRAM_RUNS)
    end_long("old")
    for answer in end_jobs(machine, "meanwhile"):
        assert answer["code"] == 200 and answer["body"]["run"]["stdout"] == "hello\n", answer
    machine.wait_for_unit("codesandboxd.service")
    after = main_pid("codesandboxd.service")
    assert after != before, after
    t.assertEqual(machine.succeed(f"readlink /proc/{after}/exe").strip(), NEW_PROGRAM)
    t.assertEqual(main_pid("codesandbox-launcher.service"), launcher)

with subtest("a reload takes up a limit and a runtime; the job that runs goes on by what it was accepted with"):
    config = configuration(machine)
    default = config["profiles"]["default"]
    default["run"]["open_files"] = 77
    # Shorter than the job takes: it would end with this, were it to mind.
    for limits in ("compile", "run", "maximum"):
        default[limits]["wall_time_ms"] = 3_000
    add_language(machine, config, "novel")
    novel = {"runtime": "novel", "files": [{"content": "ulimit -n"}]}
    begin_jobs(machine, "refused", novel)
    refused, = end_jobs(machine, "refused")
    t.assertEqual(refused["code"], 404)
    begin_long("accepted")
    configure(machine, config)
    machine.succeed("systemctl reload codesandboxd.service")
    # Its first answers already go by the new configuration.
    limited, = run_jobs(machine, novel)
    t.assertEqual(limited["run"]["stdout"], "77\n")
    t.assertEqual(limited["limits"]["wall_time_ms"], 3_000)
    machine.succeed("systemctl is-active --quiet jobs-accepted.service")
    end_long("accepted")
    t.assertEqual(main_pid("codesandboxd.service"), after)
    t.assertEqual(main_pid("codesandbox-launcher.service"), launcher)

with subtest("a configuration that cannot be used changes nothing, and the journal names file, line and key"):
    known = profiles()
    mark = cursor()
    config = configuration(machine)
    config["profiles"]["default"]["run"]["open_files"] = 99
    config["service"]["queue"] = 1
    configure(machine, config)
    line = machine.succeed("grep -n '\"queue\":' /etc/codesandbox/config.json").split(":")[0]
    machine.execute("systemctl reload codesandboxd.service")
    told = journal_since(mark)
    assert f"/etc/codesandbox/config.json:{line}: service.queue" in told, told
    t.assertEqual(profiles(), known)
    same, = run_jobs(machine, novel)
    t.assertEqual(same["run"]["stdout"], "77\n")
    machine.require_unit_state("codesandboxd.service")

with subtest("nor does a file that is no JSON"):
    mark = cursor()
    write(machine, "/etc/codesandbox/config.json", '{\n  "service": {\n')
    machine.execute("systemctl reload codesandboxd.service")
    told = journal_since(mark)
    assert "/etc/codesandbox/config.json:" in told and "the old one stays" in told, told
    same, = run_jobs(machine, novel)
    t.assertEqual(same["run"]["stdout"], "77\n")
    t.assertEqual(main_pid("codesandboxd.service"), after)
    t.assertEqual(main_pid("codesandbox-launcher.service"), launcher)

with subtest("both units are restarted at once: the daemon lets what runs end before the launcher goes"):
    del config["service"]["queue"]
    default = config["profiles"]["default"]
    for limits in ("run", "maximum"):
        default[limits]["wall_time_ms"] = 60_000
    configure(machine, config)
    machine.succeed("systemctl reload codesandboxd.service")
    begin_long("last")
    machine.succeed("systemctl restart --no-block codesandbox-launcher.service codesandboxd.service")
    begin_jobs(machine, "between", *[novel] * 4)
    end_long("last")
    for answer in end_jobs(machine, "between"):
        assert answer["code"] == 200 and answer["body"]["run"]["stdout"] == "99\n", answer
    assert main_pid("codesandbox-launcher.service") != launcher
