"""Prints what /proc says of daemon, stub, launcher and sandboxes, whose programs have MARK among their arguments.

usage: privileges.py MARK
"""

import json
import os
import subprocess
import sys

MARK = sys.argv[1].encode()


def main_pid(unit):
    output = subprocess.run(["systemctl", "show", "--property=MainPID", "--value", unit], capture_output=True, check=True)
    return int(output.stdout)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as text:
        return [int(child) for child in text.read().split()]


def status(pid):
    with open(f"/proc/{pid}/status") as lines:
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def facts(pid):
    found = status(pid) | {"user_namespace": os.readlink(f"/proc/{pid}/ns/user")}
    with open(f"/proc/{pid}/uid_map") as uid_map:
        found["uid_map"] = uid_map.read()
    return found


def is_program(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as command:
        return MARK in command.read().split(b"\0")


stub = main_pid("codesandbox-launcher.service")
launcher = children(stub)[0]
# Init is process 1 of its namespace; the program is the launcher's child too.
sandboxes = children(launcher)
print(json.dumps({
    "host": facts(1),
    "daemon": facts(main_pid("codesandboxd.service")),
    "stub": facts(stub),
    "launcher": facts(launcher),
    "inits": [facts(pid) for pid in sandboxes if status(pid)["NSpid"].split()[-1] == "1"],
    "programs": [facts(pid) for pid in sandboxes if is_program(pid)],
}))
