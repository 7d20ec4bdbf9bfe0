"""A shell in the guest on the terminal that the driver was started from."""

import os
import shlex
import shutil

from .machine import Machine

UNIT = "terminal.service"


def attach(machine: Machine) -> int:
    """Runs a login shell on the guest's console until it ends; 0."""
    size = shutil.get_terminal_size()
    shell = (f"stty rows {size.lines} columns {size.columns} sane; echo; "
             "echo 'codeSandbox is installed. Leave with exit or Control-D.'; cd /root; exec bash --login")
    try:
        machine.succeed(
            f"systemd-run --quiet --collect --unit={UNIT} --property=StandardInput=tty-force "
            "--property=StandardOutput=tty --property=StandardError=tty --property=TTYPath=/dev/ttyS0 "
            f"--setenv=TERM={shlex.quote(os.environ.get('TERM', 'vt100'))} --setenv=HOME=/root "
            f"bash -c {shlex.quote(shell)}")
        machine.wait_until_fails(f"systemctl is-active {UNIT}", timeout=24 * 60 * 60)
    finally:
        machine.close()
    return 0
