"""Installs codeSandbox in a guest as NixOS has it on one host: from `golden/HOST/`, word for word."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from codesandbox_vm import Skip

from .machine import PAYLOAD, Machine
from .scenario import VM_TESTS

GOLDEN = VM_TESTS / "golden"
HOST = "minimal"
# Whose table lies ready where the host itself has none: it is loaded by starting nftables.service.
TABLE_HOST = "dev-vm"
USERS = VM_TESTS / "lib" / "users.json"
PROGRAMS = ("codesandbox", "codesandboxd", "codesandbox-launcher")
STAGED = "/run/golden"
MANIFEST = "/etc/codesandbox/runtimes.json"
# A program in the store, as units name it.
STORE_PROGRAM = re.compile(r"/nix/store/[0-9a-z]{32}-([0-9A-Za-z+._?=-]+)/s?bin/([0-9A-Za-z+._-]+)")

# Users before what belongs to them, kernel settings and directories before the sockets.
STEPS = f"""
cd {STAGED}
cp -r units/. /etc/systemd/system/
for kind in sysusers tmpfiles sysctl; do
    if [ -d $kind.d ]; then mkdir -p /etc/$kind.d; cp $kind.d/* /etc/$kind.d/; fi
done
systemd-sysusers
cat etc/subuid >> /etc/subuid; cat etc/subgid >> /etc/subgid
[ ! -d sysctl.d ] || sysctl --quiet --load sysctl.d/*.conf
[ ! -d tmpfiles.d ] || systemd-tmpfiles --create tmpfiles.d/*.conf
# As NixOS has it: whole and in one transaction, so that it can be loaded again.
(echo 'table inet codesandbox'; echo 'delete table inet codesandbox'; cat table.nft) > /etc/nftables.conf
[ ! -d nftables ] || systemctl --quiet enable --now nftables.service
install -D -m 644 etc/codesandbox/config.json /etc/codesandbox/config.json
if [ -e {PAYLOAD}/store.tar ]; then
    tar -x -C / -f {PAYLOAD}/store.tar
    install -m 644 {PAYLOAD}/runtimes.json {MANIFEST}
fi
systemctl daemon-reload
systemctl --quiet enable --now $(cd units; ls *.socket)
rm -r {STAGED}
"""


def install(machine: Machine, payload: Path, host: str | None) -> None:
    """Puts everything in its place and starts the sockets; Skip where the payload has no programs."""
    for program in PROGRAMS:
        if not (payload / "bin" / program).is_file():
            raise Skip(f"the payload has no bin/{program}: give --payload DIR with DIR/bin/{program}")
    golden = GOLDEN / (host or HOST)
    if not (golden / "units").is_dir():
        raise Skip(f"there is no host {golden.name}: no {golden}/units")
    machine.copy_from_host(str(golden), STAGED)
    table = next(GOLDEN / each / "nftables/codesandbox.nft" for each in (golden.name, TABLE_HOST)
                 if (GOLDEN / each / "nftables").is_dir())
    machine.copy_from_host(str(table), f"{STAGED}/table.nft")
    machine.succeed(_provide_programs(golden))
    config = json.loads((golden / "etc/codesandbox/config.json").read_text())
    config["runtimes"] = _runtimes(payload)
    machine.succeed(f"printf '%s\\n' {shlex.quote(json.dumps(config))} > {STAGED}/etc/codesandbox/config.json")
    machine.succeed(STEPS)
    machine.succeed(_make_users(json.loads(USERS.read_text())))


def _provide_programs(golden: Path) -> str:
    """Commands that put ours, and links to Debian's, where the units look for programs."""
    named = {match.groups() + (match[0],) for unit in (golden / "units").rglob("*") if unit.is_file()
             for match in STORE_PROGRAM.finditer(unit.read_text())}
    commands = [f"install -m 755 {PAYLOAD}/bin/codesandbox /usr/local/bin/"]
    for package, program, path in sorted(named):
        if package.startswith("codesandbox-"):
            commands.append(f"install -D -m 755 {PAYLOAD}/bin/{program} {path}")
        else:
            commands.append(f"mkdir -p {Path(path).parent}; ln -sf $(command -v {program}) {path}")
    return "\n".join(commands)


def _runtimes(payload: Path) -> dict[str, Any]:
    """The host's manifest names store paths that Debian lacks: /usr, and the payload's own, instead.

    The payload's are what `nix/ci --runtimes` leaves: store.tar and runtimes.json.
    """
    runtimes: dict[str, Any] = {"host": True, "trees": []}
    if (payload / "store.tar").is_file() and (payload / "runtimes.json").is_file():
        runtimes["manifest"] = MANIFEST
    return runtimes


def _make_users(users: dict[str, dict[str, Any]]) -> str:
    """Commands that make the users scenarios expect, as `default.nix` does on NixOS."""
    commands = []
    for name, user in users.items():
        groups = shlex.quote(",".join(user["groups"]))
        commands.append(f"useradd --create-home --groups {groups} --shell /bin/bash {name}")
        if not user["subordinate_ids"]:
            commands.append(f"sed -i /^{name}:/d /etc/subuid /etc/subgid")
    return "\n".join(commands)
