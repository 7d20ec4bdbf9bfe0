"""Prints what /proc says of the daemon, of the launcher's stub, and of the launcher."""

import json
import os
import subprocess


def main_pid(unit):
    output = subprocess.run(["systemctl", "show", "--property=MainPID", "--value", unit], capture_output=True, check=True)
    return int(output.stdout)


def facts(pid):
    with open(f"/proc/{pid}/status") as status:
        found = dict(line.rstrip("\n").replace("\t", " ").split(": ", 1) for line in status if ": " in line.replace("\t", " "))
    found = {name: value.strip() for name, value in found.items()}
    found["user_namespace"] = os.readlink(f"/proc/{pid}/ns/user")
    with open(f"/proc/{pid}/uid_map") as uid_map:
        found["uid_map"] = uid_map.read()
    return found


stub = main_pid("codesandbox-launcher.service")
with open(f"/proc/{stub}/task/{stub}/children") as children:
    launcher = int(children.read().split()[0])
pids = {"daemon": main_pid("codesandboxd.service"), "stub": stub, "launcher": launcher}
print(json.dumps({name: facts(pid) for name, pid in pids.items()}))
