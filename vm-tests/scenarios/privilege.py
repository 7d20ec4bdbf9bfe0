"""Each process holds the privilege that the design gives it, and the units' exposure is bounded."""

import json
import re

from codesandbox_vm import Answer, begin_jobs, have_none_wait, health, place, program, python

SETUP = {"cap_setgid", "cap_setuid"}
# CAP_SETGID and CAP_SETUID, as /proc shows them.
SETUP_MASK = 1 << 6 | 1 << 7
# CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SYS_PTRACE: over its own namespaces, for its own program's files.
INIT_MASK = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 19
MARK = "the-one-that-waits"
HELD = ("CapInh", "CapPrm", "CapEff", "CapAmb")
# What `systemd-analyze security` of systemd 257 says, 0.5 and 6.1, and a little for later ones. The
# launcher's is what its unit explains: system call filters would be inherited by the sandboxes.
MOST_EXPOSED = {"codesandboxd.service": 0.8, "codesandbox-launcher.service": 6.4}
LAUNCHER_SOCKET = "socat -u OPEN:/dev/null UNIX-CONNECT:/run/codesandbox/launcher.sock,type=5"


def masks(process: Answer) -> list[int]:
    return [int(process[name], 16) for name in HELD]


def exposure(unit: str) -> float:
    lines = machine.succeed(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", lines)
    assert found, lines
    return float(found[1])


# One sandbox, that of the job; parked_and_warm looks at those that wait.
machine.succeed(health())
have_none_wait(machine)
begin_jobs(machine, "live", python("import signal; signal.pause()", args=[MARK]))
machine.wait_until_succeeds(f"pgrep --full '[{MARK[0]}]{MARK[1:]}'")
found = json.loads(machine.succeed(program("privileges.py", MARK)))
machine.succeed("systemctl stop jobs-live.service")
daemon, stub, launcher, host = found["daemon"], found["stub"], found["launcher"], found["host"]

with subtest("who reads client bytes has no privilege, and gets none"):
    uid = machine.succeed("id -u codesandbox").strip()
    t.assertEqual(set(daemon["Uid"].split()), {uid})
    t.assertEqual(masks(daemon) + [int(daemon["CapBnd"], 16)], [0] * 5)
    t.assertEqual((daemon["NoNewPrivs"], daemon["Seccomp"]), ("1", "2"))
    # The control: the same lines of process 1 say that it may do anything.
    assert host["Uid"].split()[0] == "0" and int(host["CapEff"], 16) & SETUP_MASK == SETUP_MASK, host

with subtest("the launcher's two capabilities are for its start, and gone when it serves"):
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        t.assertEqual(set(machine.get_unit_property("codesandbox-launcher.service", name).split()), SETUP, name)
    user = machine.succeed("id -u codesandbox-launcher").strip()
    t.assertEqual(masks(stub), [0] * 4)
    t.assertEqual(int(stub["CapBnd"], 16), SETUP_MASK)
    for process in (stub, launcher):
        assert process["NoNewPrivs"] == "1" and set(process["Uid"].split()) == {user}, process
    # What it holds now it holds over ids of its range, in a namespace of its own.
    subordinate = machine.succeed("sed -n s/^codesandbox-launcher://p /etc/subuid").split(":")[0]
    assert stub["user_namespace"] == host["user_namespace"] != launcher["user_namespace"], found
    first, second = [line.split() for line in launcher["uid_map"].splitlines()]
    assert first == ["0", user, "1"] and second[:2] == ["1", subordinate], launcher

with subtest("in a sandbox init holds little and the program nothing"):
    init, = found["inits"]
    running, = found["programs"]
    assert int(init["CapEff"], 16) & ~INIT_MASK == 0, init
    t.assertEqual(init["CapBnd"], init["CapEff"])
    t.assertEqual(masks(running) + [int(running["CapBnd"], 16)], [0] * 5)
    for process in (init, running):
        assert process["NoNewPrivs"] == "1" and process["Seccomp"] == "2", process
        assert process["user_namespace"] not in (launcher["user_namespace"], host["user_namespace"]), process
        assert int(process["Uid"].split()[0]) >= int(subordinate), process

with subtest("the daemon's unit refuses what its program should never ask for"):
    probe = place(machine, "confined.py")
    machine.succeed(f"""
        for name in confined bare; do
            printf '[Service]\\nType=oneshot\\nExecStart=%s {probe}\\nStandardOutput=truncate:/run/vm-tests/%s.json\\n' \
                "$(command -v python3)" $name > /run/systemd/system/$name.service
        done
        systemctl cat codesandboxd.service | sed -n '/^\\[Service\\]/,/^\\[/p' \
            | grep -vE '^(\\[|Exec|Type=|Restart|Watchdog|StateDirectory|CacheDirectory)' >> /run/systemd/system/confined.service
        systemctl daemon-reload; systemctl start confined.service bare.service
        rm -f /etc/planted /run/codesandbox/planted
    """)
    inside, outside = [json.loads(machine.succeed(f"cat /run/vm-tests/{name}.json")) for name in ("confined", "bare")]
    t.assertEqual({name: error for name, error in outside.items() if error is not None}, {})
    t.assertEqual(sorted(inside), sorted(outside))
    t.assertEqual([name for name, error in inside.items() if error is None], [])

with subtest("nobody but the daemon talks to the launcher"):
    machine.succeed(f"runuser -u codesandbox -- {LAUNCHER_SOCKET}")
    for user in ("client", "stranger"):
        machine.fail(f"runuser -u {user} -- {LAUNCHER_SOCKET}")

with subtest("systemd finds little that is exposed"):
    figures = {unit: exposure(unit) for unit in (*MOST_EXPOSED, "bare.service")}
    print("systemd-analyze security:", ", ".join(f"{unit} {figure}" for unit, figure in figures.items()))
    assert figures["bare.service"] > 9, figures
    for unit, most in MOST_EXPOSED.items():
        assert figures[unit] <= most, figures
