"""Installs codeSandbox in a guest the way a package would."""

import shlex

from lib.machine import Machine
from lib.scenario import Skip

PAYLOAD = "/mnt/payload"
PROGRAMS = ("codesandboxd", "codesandbox-launcher")
# What the launcher's user may map; must stay in step with the configuration that is tested.
SUBORDINATE_RANGE = "codesandbox-launcher:2000000:65536"


def install_codesandbox(machine: Machine, binaries: str = f"{PAYLOAD}/bin"):
    """Copies binaries, units and configuration from the payload, makes users, enables the sockets.

    `bin/codesandboxd` and `bin/codesandbox-launcher` must be in the payload, else the scenario is
    skipped; `bin/codesandbox`, `config.json` and other binaries are taken if they are there.
    """
    for program in PROGRAMS:
        path = f"{binaries}/{program}"
        if machine.execute(f"test -x {shlex.quote(path)}")[0] != 0:
            raise Skip(f"the payload has no {path}: give --payload DIR with DIR/bin/{program}")
    machine.succeed(
        f"""
        install -m 755 {shlex.quote(binaries)}/* /usr/local/bin/
        cp {PAYLOAD}/units/*.socket {PAYLOAD}/units/*.service {PAYLOAD}/units/*.slice /etc/systemd/system/
        install -D -m 644 {PAYLOAD}/units/codesandbox.sysusers.conf /etc/sysusers.d/codesandbox.conf
        systemd-sysusers /etc/sysusers.d/codesandbox.conf
        echo {SUBORDINATE_RANGE} | tee -a /etc/subuid >> /etc/subgid
        mkdir -p /etc/codesandbox
        if [ -e {PAYLOAD}/config.json ]; then
            install -m 644 {PAYLOAD}/config.json /etc/codesandbox/config.json
        else
            echo '{{}}' > /etc/codesandbox/config.json
        fi
        systemctl daemon-reload
        systemctl --quiet enable --now codesandbox-launcher.socket codesandboxd.socket
        """
    )
