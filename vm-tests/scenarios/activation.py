"""Socket activation, readiness, watchdog, journal fields, access by group, restarts: real systemd."""

from codesandbox_vm import health, python, run_jobs, write

HEALTH = health()
UNIT = "codesandboxd.service"
SOCKET = "/run/codesandbox/api.sock"
WATCHDOG_SECONDS = 10
INODE = f"$(awk '$8 == \"{SOCKET}\" && $6 == \"01\" {{ print $7 }}' /proc/net/unix)"


def holds_the_socket(pid: str) -> bool:
    status, _ = machine.execute(f"ls -l /proc/{pid}/fd | grep -F \"socket:[{INODE}]\" > /dev/null")
    return status == 0


def pid_of_daemon() -> str:
    return machine.get_unit_property(UNIT, "MainPID")


with subtest("the first connection starts the service"):
    machine.fail("systemctl is-active codesandboxd.service codesandbox-launcher.service")
    assert holds_the_socket("1")
    answer, = run_jobs(machine, python("print(open('/proc/self/cgroup').read())"))
    t.assertEqual(answer["run"]["stdout"].strip(), "0::/")
    # Type=notify: active means that it said so.
    machine.wait_for_unit(UNIT)
    assert machine.get_unit_property(UNIT, "StatusText")

with subtest("the socket is systemd's own, handed over, and outlives the daemon"):
    inode = machine.succeed(f"echo {INODE}")
    assert holds_the_socket("1") and holds_the_socket(pid_of_daemon())
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertEqual(machine.succeed(f"echo {INODE}"), inode)
    assert holds_the_socket(pid_of_daemon())

with subtest("the journal knows the job by its id"):
    machine.succeed(f"journalctl --sync; journalctl --quiet JOB_ID={answer['id']} --output=json | grep -q MESSAGE")

with subtest("whoever is not in the socket's group gets nowhere"):
    machine.succeed(f"runuser -u client -- {HEALTH}")
    machine.fail(f"runuser -u stranger -- {HEALTH}")

with subtest("a launcher that is killed takes its sandboxes along and comes back"):
    machine.succeed("systemctl kill --signal=KILL codesandbox-launcher.service")
    machine.wait_until_succeeds(HEALTH)
    again, = run_jobs(machine, python("print('again')"))
    t.assertEqual(again["run"]["stdout"], "again\n")

with subtest("a daemon that is killed is started again, and one that is stopped says that it stops"):
    machine.succeed(f"systemctl kill --signal=KILL {UNIT}")
    machine.wait_until_succeeds(HEALTH)
    machine.succeed(f"systemctl stop {UNIT}")
    t.assertEqual(machine.get_unit_property(UNIT, "Result"), "success")

with subtest("a daemon that no longer turns is killed by the watchdog and started again"):
    # The control: the unit as it is has one.
    t.assertNotIn(machine.get_unit_property(UNIT, "WatchdogUSec"), ("0", "infinity"))
    directory = f"/run/systemd/system/{UNIT}.d"
    machine.succeed(f"mkdir -p {directory}")
    write(machine, f"{directory}/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}")
    machine.succeed(f"systemctl daemon-reload; {HEALTH}")
    stopped = pid_of_daemon()
    machine.succeed(f"kill -STOP {stopped}")
    # Six times the time: the guest may be slow, and nothing else ever ends what is stopped.
    machine.wait_until_fails(f"kill -0 {stopped}", timeout=6 * WATCHDOG_SECONDS)
    machine.wait_until_succeeds(HEALTH)
    t.assertNotEqual(pid_of_daemon(), stopped)
    t.assertEqual(machine.get_unit_property(UNIT, "NRestarts"), "1")
    machine.succeed(f"journalctl --sync; journalctl --quiet --unit={UNIT} --output=cat | grep -qi 'watchdog timeout'")
