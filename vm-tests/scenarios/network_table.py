"""What our users and the launcher's cgroup may not reach is refused at once and counted; nobody else is affected."""

import json

from codesandbox_vm import Answer, program

# A neighbour in a network namespace, at addresses of each kind; and how the table calls the kind.
NEIGHBOUR = {
    "10.77.0.2": "private", "100.64.0.1": "private", "169.254.7.7": "private", "192.168.77.7": "private",
    "fd77::2": "private", "fe80::77%uplink": "private", "::ffff:10.77.0.2": "private",
    "169.254.169.254": "metadata", "fd00:ec2::254": "metadata",
    "9.9.9.9": "public", "2620:fe::fe": "public",
}
OURS = {
    "127.0.0.1": "host", "127.8.8.8": "host", "::1": "host", "10.77.0.1": "host", "fd77::1": "host",
    "10.77.0.255": "host", "224.0.0.251": "host", "ff02::fb%uplink": "host",
}
# Multicast and broadcast: nobody in particular answers.
NOBODYS = ("10.77.0.255", "224.0.0.251", "ff02::fb%uplink")
KINDS = {**NEIGHBOUR, **OURS}
# Of two processors one may be busy elsewhere: "at once" is seconds in an emulated machine, and silence five of them.
AT_ONCE_SECONDS = 4
LOOPBACK = ("127.0.0.1", "127.8.8.8", "::1")
LAUNCHER_GROUP = "/sys/fs/cgroup/codesandbox.slice/codesandbox-launcher.service/supervisor"


def make_neighbour() -> None:
    """Two ends of a cable, one of them in a namespace where somebody answers at every address."""
    commands = [
        "ip netns add outside",
        "ip link add uplink type veth peer name peer netns outside",
        "ip address add 10.77.0.1/24 broadcast + dev uplink",
        "ip address add fd77::1/64 dev uplink nodad",
        "ip -n outside address add 10.77.0.2/24 dev peer",
        "ip -n outside address add fd77::2/64 dev peer nodad",
        "ip -n outside address add fe80::77/64 dev peer nodad",
        "ip link set uplink up", "ip -n outside link set peer up", "ip -n outside link set lo up",
        "ip route add 224.0.0.0/4 dev uplink",
    ]
    for address in NEIGHBOUR:
        if not address.startswith(("10.77.", "fd77:", "fe80:", "::ffff:")):
            commands += [f"ip -n outside address add {address} dev peer{' nodad' if ':' in address else ''}",
                         f"ip route add {address} dev uplink"]
    machine.succeed("\n".join(commands))
    # Until then the addresses may not be used.
    for place in ("", "-n outside"):
        machine.wait_until_fails(f"ip {place} -6 address show tentative | grep -q .")
    answer("outside", "ip netns exec outside ", [address.replace("%uplink", "%peer") for address in NEIGHBOUR
                                                 if not address.startswith("::ffff:")])
    answer("here", "", [address for address in OURS if address not in NOBODYS])


def answer(name: str, prefix: str, addresses: list[str]) -> None:
    server = program("echo_server.py", *addresses)
    machine.succeed(f"systemd-run --quiet --collect --unit=echo-{name} --description=echo {prefix}{server}")
    machine.wait_until_succeeds(f"journalctl --quiet --unit=echo-{name} --output=cat | grep -qx ready", timeout=60)


def reach(uid: int, *addresses: str) -> Answer:
    identity = f"setpriv --reuid={uid} --regid={uid} --clear-groups"
    results: Answer = json.loads(machine.succeed(f"{identity} {program('reach.py', *addresses)}"))
    return results


def counted() -> dict[str, int]:
    objects = json.loads(machine.succeed("nft --json list counters table inet codesandbox"))["nftables"]
    counters = [each["counter"] for each in objects if "counter" in each]
    return {counter["name"]: counter["packets"] for counter in counters}


def check_reached(results: Answer) -> None:
    for address, protocols in results.items():
        for protocol, attempt in protocols.items():
            assert attempt["result"] == "reached", (address, protocol, attempt)


def check_refused(results: Answer) -> None:
    for address, protocols in results.items():
        for protocol, attempt in protocols.items():
            assert attempt["result"] not in ("reached", "silence"), (address, protocol, attempt)
            assert attempt["seconds"] < AT_ONCE_SECONDS, (address, protocol, attempt)


def check_counted(before: dict[str, int], results: Answer) -> None:
    # One packet for each address at least: how many an attempt takes is the kernel's business.
    addresses = {kind: sum(1 for address in results if KINDS[address] == kind) for kind in set(KINDS.values())}
    after = counted()
    for kind, least in addresses.items():
        assert after[kind] - before[kind] >= least, (kind, before, after, least, results)


def check_refuses_everything(uid: int) -> None:
    before = counted()
    results = reach(uid, *KINDS)
    check_refused(results)
    check_counted(before, results)


def rules() -> str:
    """The table without what its counters stand at."""
    return machine.succeed("nft --stateless list table inet codesandbox")


# On NixOS it runs from the start on.
machine.succeed("systemctl start nftables.service")
make_neighbour()
stranger, daemon, launcher = (int(machine.succeed(f"id -u {name}"))
                              for name in ("stranger", "codesandbox", "codesandbox-launcher"))
first, count = map(int, machine.succeed("sed -n s/^codesandbox-launcher://p /etc/subuid").split(":"))

with subtest("whoever is not ours reaches all of it, and is not counted"):
    before = counted()
    check_reached(reach(stranger, *KINDS))
    check_reached(reach(first + count, "10.77.0.2", "fd77::2", "127.0.0.1"))
    check_reached(reach(first - 1, "10.77.0.2", "fd77::2", "127.0.0.1"))
    t.assertEqual(counted(), before)

with subtest("our users and the ids of sandboxes are refused all of it, at once, and counted by kind"):
    for uid in (daemon, launcher, first, first + count - 1):
        check_refuses_everything(uid)

with subtest("a reload and a restart leave the table as it was, once"):
    table = rules()
    for verb in ("reload", "restart"):
        machine.succeed(f"systemctl {verb} nftables.service")
        t.assertEqual(rules(), table)
        check_refused(reach(launcher, "10.77.0.2", "fd77::2", "127.0.0.1"))

with subtest("without the table there is the unit: whatever runs in the launcher's group reaches loopback alone"):
    machine.succeed("nft delete table inet codesandbox", "systemctl start codesandbox-launcher.service")
    machine.wait_for_file(f"{LAUNCHER_GROUP}/cgroup.procs")
    # Control: by nothing but its group does this process differ.
    check_reached(reach(launcher, "10.77.0.2", "fd77::2", "127.0.0.1"))
    # To be sure that no other lock is at work, a stranger's; and few addresses, because here TCP waits in vain.
    few = (*LOOPBACK, "10.77.0.2", "fd77::2", "9.9.9.9", "10.77.0.1")
    as_stranger = f"setpriv --reuid={stranger} --regid={stranger} --clear-groups {program('reach.py', *few)}"
    inside: Answer = json.loads(machine.succeed(f"(echo $BASHPID > {LAUNCHER_GROUP}/cgroup.procs; {as_stranger})"))
    check_reached({address: inside[address] for address in LOOPBACK})
    for address in few[len(LOOPBACK):]:
        for protocol, attempt in inside[address].items():
            assert attempt["result"] != "reached", (address, protocol, attempt)
    # Datagrams are refused and not lost.
    t.assertEqual(inside["10.77.0.2"]["udp"]["result"], "EPERM")
    t.assertEqual(inside["fd77::2"]["udp"]["result"], "EPERM")

machine.succeed("systemctl stop echo-here.service echo-outside.service; ip netns delete outside")
