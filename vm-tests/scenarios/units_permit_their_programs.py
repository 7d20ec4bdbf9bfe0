"""The units start on the first request and permit daemon and launcher what they need, no more.

Programs of a few lines stand in for the real ones, so that a failure here is the units' own.
"""

import json

from codesandbox_vm import Answer, health, place

REQUEST = health("/")
CAP_SETGID_AND_SETUID = f"{1 << 6 | 1 << 7:016x}"
NO_CAPABILITY = f"{0:016x}"


def replace(name: str) -> None:
    """Has the unit start the stand-in, with the arguments that it gives to the real program."""
    path = place(machine, f"stand-ins/{name}")
    machine.succeed(f"""
        arguments=$(systemctl cat {name}.service | sed -n 's/^ExecStart=[^ ]* //p')
        mkdir -p /run/systemd/system/{name}.service.d
        printf '[Service]\\nExecStart=\\nExecStart=%s {path} %s\\n' "$(command -v python3)" "$arguments" \
            > /run/systemd/system/{name}.service.d/stand-in.conf
    """)


def check_daemon(facts: Answer, uid: int) -> None:
    assert facts["uid"] == uid and facts["arguments"][0] == "--config", facts
    assert facts["capabilities"] == facts["bounding"] == NO_CAPABILITY, facts
    assert facts["seccomp"] == "2" and isinstance(facts["config"], dict), facts
    for action in ("internet_socket", "user_namespace", "write_etc"):
        assert facts[action] is not None, f"the daemon may do {action}"
    assert facts["write_state"] is None, facts


def check_launcher(facts: Answer, uid: int) -> None:
    assert facts["uid"] == uid and facts["arguments"][0] == "--config", facts
    assert facts["capabilities"] == facts["bounding"] == CAP_SETGID_AND_SETUID, facts
    # A filter of the unit would be inherited by the sandboxes.
    assert facts["seccomp"] == "0" and facts["socket_type"], facts
    assert facts["group"].endswith("/codesandbox-launcher.service/supervisor"), facts
    assert facts["group"].startswith("0::/codesandbox.slice/"), facts
    assert facts["namespaces"] == "ok" and facts["leaf"] == "ok", facts


for unit in ("codesandboxd", "codesandbox-launcher"):
    replace(unit)
machine.succeed("systemctl daemon-reload")
machine.fail("systemctl is-active codesandboxd.service codesandbox-launcher.service")

with subtest("only clients may connect, and nobody but the daemon to the launcher"):
    machine.fail(f"runuser -u stranger -- {REQUEST}")
    machine.fail("runuser -u client -- socat -u OPEN:/dev/null UNIX-CONNECT:/run/codesandbox/launcher.sock,type=5")

with subtest("both start, and may do what they need"):
    facts = json.loads(machine.succeed(f"runuser -u client -- {REQUEST}"))
    machine.wait_for_unit("codesandboxd.service")
    machine.wait_for_unit("codesandbox-launcher.service")
    check_daemon(facts, int(machine.succeed("id -u codesandbox")))
    check_launcher(facts["launcher"], int(machine.succeed("id -u codesandbox-launcher")))

with subtest("a restart of the daemon loses neither socket"):
    machine.succeed("systemctl restart codesandboxd.service", REQUEST)
