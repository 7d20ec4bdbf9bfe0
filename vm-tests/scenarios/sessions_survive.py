"""Sessions survive their daemon with all that they print, persistent ones the host, and time-outs end the others."""

import json
import re

from codesandbox_vm import (
    Answer, Session, ask, configuration, configure, have_none_wait, health, leftovers, session_groups, write,
)

STATE = "/var/lib/codesandbox"
# Counts without end, until it is told to stop.
COUNTS = """
import itertools, os, time
for number in itertools.count():
    print(f'{number:07}', flush=True)
    if number % 16 == 0:
        time.sleep(0.01)
        if os.path.exists('/workspace/stop'): break
"""
ECHO = "while read -r line; do echo \"heard $line\"; done; echo over"
NEW_PROGRAM = "/var/lib/new-release/codesandboxd"
DAEMON, LAUNCHER = "codesandboxd.service", "codesandbox-launcher.service"
SHOW = "echo \"$(<file)\""


def main_pid(unit: str) -> str:
    return machine.get_unit_property(unit, "MainPID")


def printed(number: int) -> int:
    """How many bytes a program of the session has printed."""
    return int(session.asked("GET", f"/execs/{number}")["stdout"]["next"])


def goes_on(number: int) -> None:
    """It runs, and prints more than it had."""
    before = printed(number)
    retry(lambda last: printed(number) > before + 800, timeout=200)
    t.assertEqual(session.asked("GET", f"/execs/{number}")["state"], "running")


def in_full(result: Answer) -> None:
    """It has ended well, and all that it has printed is there, once."""
    assert result["status"] == "ok" and not result["truncated"], {**result, "stdout": "…"}
    numbers = result["stdout"].split("\n")[:-1]
    t.assertEqual(numbers, [f"{number:07}" for number in range(len(numbers))])
    print(f"{len(numbers)} lines, and none is missing")


def new_release() -> None:
    """As `nixos-rebuild switch` does: another program in the unit, and a restart."""
    before = main_pid(DAEMON)
    arguments = machine.succeed(f"tr '\\0' ' ' < /proc/{before}/cmdline").split()[1:]
    machine.succeed(f"mkdir -p $(dirname {NEW_PROGRAM}); cp /proc/{before}/exe {NEW_PROGRAM}; chmod 755 {NEW_PROGRAM}",
                    "mkdir -p /run/systemd/system/codesandboxd.service.d")
    write(machine, "/run/systemd/system/codesandboxd.service.d/new.conf",
          f"[Service]\nExecStart=\nExecStart={NEW_PROGRAM} {' '.join(arguments)}")
    machine.succeed("systemctl daemon-reload", f"systemctl restart {DAEMON}")


def is_gone(path: str) -> bool:
    answer, = ask(machine, ("GET", path))
    return bool(answer["code"] == 404)


config = configuration(machine)
config["sessions"]["pause_after_ms"] = 0
config["service"]["stop_deadline_ms"] = 60_000
configure(machine, config)
machine.succeed(health())
have_none_wait(machine)
launcher = main_pid(LAUNCHER)

session = Session(machine, limits={"memory_bytes": 128 << 20}, labels={"is": "gone"})
number = session.begin("python", "-c", COUNTS)
heard = session.begin("bash", "-c", ECHO, keep_stdin=True)
over = session.begin("bash", "-c", "echo before")
t.assertEqual(session.ended(over)["stdout"], "before\n")
for way, act in {
    "restarted": lambda: machine.succeed(f"systemctl restart {DAEMON}"),
    "killed": lambda: machine.succeed(f"systemctl kill --kill-whom=main --signal=KILL {DAEMON}"),
    "replaced": new_release,
    "killed once more": lambda: machine.succeed(f"systemctl kill --kill-whom=main --signal=KILL {DAEMON}"),
}.items():
    with subtest(f"a daemon that is {way}: programs go on, and so does what they print and are told"):
        goes_on(number)
        daemon = main_pid(DAEMON)
        act()
        goes_on(number)
        assert main_pid(DAEMON) not in ("0", daemon)
        session.asked("POST", f"/execs/{heard}/stdin", f"{way}\n", code=204)
        t.assertEqual(session.asked("GET")["restarts"], 0)
        t.assertEqual(session.asked("GET", f"/execs/{over}")["result"]["stdout"], "before\n")

with subtest("nothing of it is lost, and nothing is told twice"):
    t.assertEqual(main_pid(LAUNCHER), launcher)
    session.asked("PUT", "/fs/file?path=stop", "", code=204)
    in_full(session.ended(number))
    session.asked("POST", f"/execs/{heard}/stdin?close=true", "", code=204)
    t.assertEqual(session.ended(heard)["stdout"],
                  "heard restarted\nheard killed\nheard replaced\nheard killed once more\nover\n")

with subtest("a program that ends while there is no daemon is told of by the next"):
    number = session.begin("python", "-c", "import time\ntime.sleep(5)\nprint('last words')\nraise SystemExit(3)")
    machine.succeed("systemctl stop codesandboxd.socket codesandboxd.service")
    machine.wait_until_fails("pgrep -f 'time.sleep[(]5[)]'", timeout=200)
    machine.succeed("systemctl start codesandboxd.socket")
    result = session.ended(number)
    t.assertEqual([result["status"], result["exit_code"], result["stdout"]], ["nonzero_exit", 3, "last words\n"])

with subtest("idle time-outs: one is gone, a persistent one is on disk"):
    short, kept, busy = (Session(machine, idle_timeout_ms=20_000, persistent=persistent)
                         for persistent in (False, True, False))
    # Who computes in silence is not idle.
    busy.begin("python", "-c", "while True: pass")
    kept.asked("PUT", "/fs/file?path=file", "kept\n", code=204)
    retry(lambda last: is_gone(short.path), timeout=200)
    retry(lambda last: kept.asked("GET")["status"] == "stopped", timeout=200)
    t.assertEqual(sorted(session_groups(machine)), sorted([session.group, busy.group]))
    t.assertEqual(kept.run("bash", "-c", SHOW)["stdout"], "kept\n")
    t.assertEqual(busy.asked("GET")["execs_running"], 1)
    for one in (kept, busy):
        one.asked("DELETE", code=204)
    t.assertEqual(machine.succeed(f"ls {STATE}/workspaces"), "")

with subtest("a reboot: a persistent one comes back with files and snapshots, the other does not"):
    lasting = Session(machine, persistent=True, limits={"memory_bytes": 128 << 20}, env={"A": "b"})
    lasting.asked("PUT", "/fs/file?path=file", "first\n", code=204)
    snapshot = lasting.asked("POST", "/snapshots", code=201)["id"]
    lasting.asked("PUT", "/fs/file?path=file", "second\n", code=204)
    # There is no ln(1) in it.
    linked = lasting.run("python", "-c", "import os; open('by-program', 'w').write('made\\n'); os.symlink('file', 'link')")
    t.assertEqual(linked["status"], "ok")
    lasting.begin("python", "-c", "import time; time.sleep(600)")
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("codesandboxd.socket")
    # While it boots, a launcher may take longer than a request waits for it.
    machine.wait_until_succeeds(health(), timeout=200)
    t.assertEqual(lasting.asked("GET")["status"], "stopped")
    session.asked("GET", code=404)
    t.assertEqual(lasting.run("bash", "-c", f"{SHOW}; echo $(<by-program) $(<link) $A")["stdout"],
                  "second\nmade second b\n")
    view = lasting.asked("GET")
    t.assertEqual([view["status"], view["restarts"]], ["active", 1])
    lasting.asked("POST", f"/snapshots/{snapshot}/rollback")
    t.assertEqual(lasting.run("bash", "-c", f"{SHOW}; echo *")["stdout"], "first\nfile\n")

for way, act in {
    "restarted": lambda: machine.succeed(f"systemctl restart {LAUNCHER}"),
    "killed": lambda: machine.succeed(f"systemctl kill --kill-whom=main --signal=KILL {LAUNCHER}"),
}.items():
    with subtest(f"a launcher that is {way}: a persistent one comes back as it was saved last, the other does not"):
        machine.succeed(health())
        have_none_wait(machine)
        other = Session(machine)
        restarts = lasting.asked("GET")["restarts"]
        lasting.asked("PUT", "/fs/file?path=file", f"{way}\n", code=204)
        # A killed one is asked for nothing any more; what is quiet for a while is saved before.
        if way == "killed":
            machine.wait_until_succeeds(
                f"tar -xOf {STATE}/workspaces/{lasting.id}/workspace-*.tar --wildcards '*file' | grep -qx {way}", timeout=200)
        act()
        retry(lambda last: is_gone(other.path), timeout=200)
        t.assertEqual(lasting.run("bash", "-c", SHOW)["stdout"], f"{way}\n")
        t.assertEqual(lasting.asked("GET")["restarts"], restarts + 1)

with subtest("nothing is left behind: no group, no process, no file"):
    lasting.asked("DELETE", code=204)
    t.assertEqual(session_groups(machine), [])
    t.assertEqual(machine.succeed(f"ls {STATE}/workspaces"), "")
    # The launcher goes on: a process of its own user, which has five digits at most, as no sandbox's has.
    of_the_launcher = re.compile(r"process \d+ of user \d{1,5}: ")
    left = [line for line in leftovers(machine) if line.startswith("process") and not of_the_launcher.match(line)]
    t.assertEqual(left, [])
    print(json.dumps(ask(machine, ("GET", "/v1/sessions"))), machine.succeed(f"ls -la {STATE}"))
