"""The units start on the first request and permit daemon and launcher what they need, no more.

Programs of a few lines stand in for the real ones, so that a failure here is the units' own.
"""

import json

from lib.install import install_codesandbox

REQUEST = "curl -sS --fail --unix-socket /run/codesandbox/api.sock http://localhost/"
CAP_SETGID_AND_SETUID = f"{1 << 6 | 1 << 7:016x}"
NO_CAPABILITY = f"{0:016x}"
CONFIG = ["--config", "/etc/codesandbox/config.json"]


def run(machine):
    install_codesandbox(machine, binaries="/mnt/payload/payloads/stand-ins")
    machine.fail("systemctl is-active codesandboxd.service codesandbox-launcher.service")

    machine.succeed("useradd --groups codesandbox-clients client")
    machine.fail(f"setpriv --reuid=daemon --regid=daemon --clear-groups {REQUEST}")
    machine.fail(
        "setpriv --reuid=client --regid=client --init-groups "
        "socat -u OPEN:/dev/null UNIX-CONNECT:/run/codesandbox/launcher.sock,type=5"
    )
    facts = json.loads(machine.succeed(f"setpriv --reuid=client --regid=client --init-groups {REQUEST}"))
    machine.wait_for_unit("codesandboxd.service")
    machine.wait_for_unit("codesandbox-launcher.service")

    check_daemon(facts, int(machine.succeed("id -u codesandbox")))
    check_launcher(facts["launcher"], int(machine.succeed("id -u codesandbox-launcher")))
    # A restart of the daemon loses neither socket.
    machine.succeed("systemctl restart codesandboxd.service", REQUEST)


def check_daemon(facts, uid):
    assert facts["uid"] == uid and facts["arguments"] == CONFIG, facts
    assert facts["capabilities"] == facts["bounding"] == NO_CAPABILITY, facts
    assert facts["seccomp"] == "2" and isinstance(facts["config"], dict), facts
    for action in ("internet_socket", "user_namespace", "write_etc"):
        assert facts[action] is not None, f"the daemon may do {action}"
    assert facts["write_state"] is None, facts


def check_launcher(facts, uid):
    assert facts["uid"] == uid and facts["arguments"] == CONFIG, facts
    assert facts["capabilities"] == facts["bounding"] == CAP_SETGID_AND_SETUID, facts
    # A filter of the unit would be inherited by the sandboxes.
    assert facts["seccomp"] == "0" and facts["socket_type"], facts
    assert facts["group"].endswith("/codesandbox-launcher.service/supervisor"), facts
    assert facts["group"].startswith("0::/codesandbox.slice/"), facts
    assert facts["namespaces"] == "ok" and facts["leaf"] == "ok", facts
