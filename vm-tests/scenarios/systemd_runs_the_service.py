"""Socket activation, readiness, watchdog, journal fields, access by group, restarts: real systemd."""

import json

from lib.client import python, run_jobs
from lib.install import install_codesandbox

HEALTH = "curl -sS --unix-socket /run/codesandbox/api.sock http://localhost/health"


def run(machine):
    install_codesandbox(machine)
    machine.fail("systemctl is-active codesandboxd.service codesandbox-launcher.service")
    answer, = run_jobs(machine, python("print(open('/proc/self/cgroup').read())"))
    assert answer["run"]["stdout"].strip() == "0::/", answer
    # Type=notify: active means that it said so.
    machine.wait_for_unit("codesandboxd.service")
    assert "StatusText=" in machine.succeed("systemctl show --property=StatusText codesandboxd.service")

    # The journal knows the job by its id.
    machine.succeed(f"journalctl --sync; journalctl --quiet JOB_ID={answer['id']} --output=json | grep -q MESSAGE")

    # Whoever is not in the socket's group gets nowhere.
    machine.succeed("useradd --groups codesandbox-clients client")
    machine.succeed(f"setpriv --reuid=client --regid=client --init-groups {HEALTH} --fail")
    machine.fail(f"setpriv --reuid=daemon --regid=daemon --clear-groups {HEALTH} --fail")

    privileges(machine)

    # A launcher that is killed takes its sandboxes along; the daemon says 503 or comes back by
    # socket activation, and works again.
    machine.succeed("systemctl kill --signal=KILL codesandbox-launcher.service")
    machine.wait_until_succeeds(f"{HEALTH} --fail")
    again, = run_jobs(machine, python("print('again')"))
    assert again["run"]["stdout"] == "again\n", again

    # A daemon that is killed is started again, and one that is stopped says that it stops.
    machine.succeed("systemctl kill --signal=KILL codesandboxd.service")
    machine.wait_until_succeeds(f"{HEALTH} --fail")
    machine.succeed("systemctl stop codesandboxd.service")
    result = machine.succeed("systemctl show --property=Result codesandboxd.service")
    assert result.strip() == "Result=success", result


def privileges(machine):
    """The process that reads client bytes has no privilege; the launcher has none over the host."""
    facts = json.loads(machine.succeed("python3 /mnt/payload/payloads/privileges.py"))
    daemon, stub, launcher = facts["daemon"], facts["stub"], facts["launcher"]
    for process in (daemon, stub):
        assert int(process["CapEff"], 16) == int(process["CapPrm"], 16) == 0, process
        assert process["NoNewPrivs"] == "1", process
    assert daemon["Seccomp"] == "2", daemon
    user = machine.succeed("id -u codesandbox-launcher").strip()
    assert launcher["Uid"].split()[0] == user, launcher
    assert launcher["user_namespace"] != daemon["user_namespace"], facts
    first, second = [line.split() for line in launcher["uid_map"].splitlines()]
    assert first == ["0", user, "1"] and second[:2] == ["1", "2000000"], launcher
