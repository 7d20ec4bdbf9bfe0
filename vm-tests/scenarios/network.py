"""A sandbox reaches what its profile lists and nothing else, is told what was refused, and fails closed."""

import json
import shlex
from pathlib import Path

from codesandbox_vm import (
    Answer, Session, ask, begin_jobs, bash, configuration, configure, end_jobs, have_none_wait, payload, program, python,
    run_jobs, write,
)

# The host `networked`: what its profile lists, and the name server that its table and its unit let through.
NAME_SERVER = "10.77.0.53"
ZONE = {
    "packages.example.org": ["9.9.9.10", "2620:fe::10"],
    "vault.example.net": ["9.9.9.11"],
    "deep.down.example.net": ["151.101.2.132"],
    "private.example.net": ["10.77.0.2"],
    "mixed.example.net": ["10.77.0.2", "151.101.2.132"],
    "metadata.example.net": ["169.254.169.254"],
    "mapped.example.net": ["::ffff:10.77.0.2"],
    "nat64.example.net": ["64:ff9b::a4d:2"],
    "own.example.net": ["198.35.26.1"],
    # Public for the first who asks, private for all others.
    "rebinding.example.net": [["151.101.2.132"], ["10.77.0.2"]],
    "example.net": ["151.101.2.132"],
    "example.com": ["151.101.2.132"],
}
LISTED = (
    "tcp:198.35.26.96@5432", "tcp:2620:0:860::96@5432", "tcp:packages.example.org@443",
    "tcp:deep.down.example.net@443", "tcp:mixed.example.net@443",
    # An address of IPv4 in the socket of IPv6 is that address.
    "tcp:::ffff:198.35.26.96@5432",
)
# How each is refused: protocol and reason, as answers tell it.
ADDRESSES = {
    "tcp:10.77.0.2@443": ("tcp", "private"),
    "tcp:10.77.0.53@443": ("tcp", "private"),
    "tcp:169.254.169.254@80": ("tcp", "private"),
    "tcp:198.35.26.1@5432": ("tcp", "private"),
    "tcp:10.77.0.1@5432": ("tcp", "private"),
    "tcp:2620:0:860::1@5432": ("tcp", "private"),
    "tcp:fd77::2@443": ("tcp", "private"),
    "tcp:::ffff:10.77.0.2@443": ("tcp", "private"),
    "tcp:64:ff9b::a4d:2@443": ("tcp", "private"),
    "tcp:151.101.66.132@443": ("tcp", "not_listed"),
    "tcp:2620:fe::66@443": ("tcp", "not_listed"),
    "tcp:198.35.26.96@443": ("tcp", "port"),
    "udp:198.35.26.96@5432": ("udp", "not_listed"),
    "udp:2620:0:860::96@5432": ("udp", "not_listed"),
    "udp:10.77.0.53@443": ("udp", "private"),
}
NAMES = {
    "tcp:private.example.net@443": "private", "tcp:metadata.example.net@80": "private",
    "tcp:mapped.example.net@443": "private", "tcp:nat64.example.net@443": "private",
    "tcp:own.example.net@443": "private", "tcp:example.net@443": "not_listed", "tcp:example.com@443": "not_listed",
}
DAEMON_SOCKET = "unix:/run/codesandbox/api.sock"
# Addresses of the host, and those behind the cable with their ports.
HOSTS = ["198.35.26.1@5432", "10.77.0.1@5432", "2620:0:860::1@5432"]
OUTSIDE = [
    "198.35.26.96@5432", "198.35.26.96@443", "2620:0:860::96@5432", "9.9.9.10@443", "2620:fe::10@443",
    "2620:fe::66@443", "151.101.2.132@443", "151.101.66.132@443", "10.77.0.2@443", "10.77.0.53@443",
    "169.254.169.254@80", "fd77::2@443", "64:ff9b::a4d:2@443",
]
GROUP = "/sys/fs/cgroup/codesandbox.slice/codesandbox-launcher.service"
LAUNCHER, DAEMON = "codesandbox-launcher.service", "codesandboxd.service"
JOB = {
    "runtime": "python", "profile": "agent", "files": [{"content": payload("egress.py")}],
    "limits": {"wall_time_ms": 120_000, "cpu_time_ms": 60_000},
}
# Who gets a secret, and where systemd has it from.
VAULT = "9.9.9.11@443"
SECRET = "/run/keys/forge"
DROP_IN = f"/run/systemd/system/{LAUNCHER}.d"
HANDED_OVER = f"/run/credentials/{LAUNCHER}/forge"
CERTIFICATES = "/run/vm-tests/certificates.pem"
ASKS = """
import os, urllib.request
token = os.environ["FORGE_TOKEN"]
request = urllib.request.Request("https://vault.example.net/", headers={"Authorization": "Bearer " + token})
print(token, urllib.request.urlopen(request, timeout=60).read().decode(), end="")
"""
# What the kernel loads for rules; NixOS has it loaded at its start.
MODULES = "nf_tables nfnetlink_log nft_chain_nat nft_ct nft_limit nft_log nft_nat nft_reject_inet"


def make_internet() -> None:
    """Two ends of a cable, and behind it somebody at every address, and the name server."""
    commands = [
        f"modprobe -a {MODULES}", "ip netns add outside", "ip link add uplink type veth peer name peer netns outside",
        "ip address add 198.35.26.1/24 dev uplink", "ip address add 10.77.0.1/24 dev uplink",
        "ip address add 2620:0:860::1/64 dev uplink nodad", "ip address add fd77::1/64 dev uplink nodad",
        "ip link set uplink up", "ip -n outside link set peer up", "ip -n outside link set lo up",
        "ip -n outside address add 10.77.0.53/24 dev peer",
        "ip -n outside route add 198.35.26.0/24 dev peer", "ip -n outside route add 2620:0:860::/64 dev peer",
        "ip -n outside route add fd77::/64 dev peer",
        # Without a way to the IPv6 internet nobody asks for such addresses.
        "ip -6 route add 2000::/3 dev uplink",
    ]
    for address in dict.fromkeys(place.split("@")[0] for place in (*OUTSIDE, VAULT)):
        if address != NAME_SERVER:
            commands.append(f"ip -n outside address add {address} dev peer{' nodad' if ':' in address else ''}")
        commands.append(f"ip route replace {address} dev uplink")
    machine.succeed("\n".join(commands))
    for part in ("", "-n outside"):
        machine.wait_until_fails(f"ip {part} -6 address show tentative | grep -q .")
    arguments = ["--dns", NAME_SERVER, "--zone", json.dumps(ZONE), *OUTSIDE]
    begin("internet", "ip netns exec outside ", arguments)
    begin("own", "", HOSTS)


def begin(name: str, prefix: str, arguments: list[str], file: str = "internet.py") -> None:
    server = program(file, *arguments)
    machine.succeed(f"systemd-run --quiet --collect --unit={name} --description={name} {prefix}{server}")
    machine.wait_until_succeeds(f"journalctl --quiet --unit={name} --output=cat | grep -qx ready", timeout=60)


def make_vault() -> None:
    """A host behind the cable that proves who it is by an authority of its own."""
    machine.succeed(
        f"mkdir -p {shlex.quote(str(Path(CERTIFICATES).parent))}; cd $(mktemp -d); "
        "new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 100'; "
        "$new -subj /CN=authority -keyout authority.key -out authority.pem; "
        "$new -subj /CN=vault -addext subjectAltName=DNS:vault.example.net -addext basicConstraints=CA:FALSE "
        "-CA authority.pem -CAkey authority.key -keyout vault.key -out vault.crt; "
        f"cat vault.key vault.crt > /run/vault.pem; install -m 644 authority.pem {CERTIFICATES}")
    begin("vault", "ip netns exec outside ", [VAULT, "/run/vault.pem"], "vault.py")


def keep(value: str) -> None:
    """What an administrator does for a secret, or for another one."""
    machine.succeed(f"install -D -m 600 /dev/null {SECRET}; printf %s {value} > {SECRET}; systemctl restart {LAUNCHER}")


def shown() -> list[str]:
    """What the vault was shown up to now."""
    lines = machine.succeed("journalctl --sync; journalctl --quiet --unit=vault --output=cat").splitlines()
    return [line.removeprefix("authorization: ") for line in lines if line.startswith("authorization: ")]


def asked() -> list[str]:
    """What the name server was asked up to now."""
    lines = machine.succeed("journalctl --sync; journalctl --quiet --unit=internet --output=cat").splitlines()
    return [line.split()[2] for line in lines if line.startswith("asked for ")]


def tries(*targets: str, **request: object) -> tuple[dict[str, str], Answer]:
    """What a job reached, and its run stage."""
    for _ in range(3):
        answer, = run_jobs(machine, {**JOB, "args": list(targets), **request})
        # An uplink has some seconds to begin, which an emulated machine may need for something else.
        if answer["run"]["network_error"] != "its uplink did not answer in time":
            break
    assert answer["run"]["status"] == "ok", answer
    results: dict[str, str] = json.loads(answer["run"]["stdout"])
    return results, answer


def told(answer: Answer) -> set[tuple[str | None, str | None, int | None, str, str]]:
    flows = [one for one in answer["run"]["denied"] if "protocol" in one]
    return {(one["name"], one["address"], one["port"], one["protocol"], one["reason"]) for one in flows}


def counted(metric: str) -> float:
    text = machine.succeed("curl -sS --fail --unix-socket /run/codesandbox/api.sock http://localhost/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric))


def passed(counter: str) -> int:
    """Packets that the host's table has counted."""
    found = json.loads(machine.succeed(f"nft --json list counter inet codesandbox {counter}"))["nftables"]
    return sum(one["counter"]["packets"] for one in found if "counter" in one)


def uplinks() -> list[str]:
    return machine.succeed(f"cat {GROUP}/uplinks/cgroup.procs").split()


def named(name: str) -> list[str]:
    """Processes of the launcher with this name."""
    lines = machine.succeed("ps -e -o pid=,comm=").splitlines()
    return [pid for pid, comm in (line.split(maxsplit=1) for line in lines) if comm == name]


def reaches(wanted: bool = True) -> None:
    """Whether a job has what it is to have."""
    results, answer = tries(LISTED[0])
    if wanted:
        t.assertEqual((results[LISTED[0]], answer["run"]["network_error"]), ("reached", None), answer)
    else:
        assert results[LISTED[0]] != "reached" and answer["run"]["network_error"], answer


def in_session(*targets: str) -> tuple[dict[str, str], Answer]:
    result = session.run("python", "-c", payload("egress.py"), *targets, limits={"wall_time_ms": 120_000})
    assert result["status"] == "ok", result
    found: dict[str, str] = json.loads(result["stdout"])
    return found, result


make_internet()
config = configuration(machine)
config["service"]["check_at_start"] = False
config["pool"] |= {"floor": 0, "ceiling": 0, "runtimes": {}}
configure(machine, config)
run_jobs(machine, bash("echo hello"))

with subtest("control: without a sandbox, everything is there"):
    everything = [target for target in (*LISTED, *ADDRESSES) if not any(name in target for name in ZONE)]
    control = json.loads(machine.succeed(program("egress.py", *everything, DAEMON_SOCKET)))
    t.assertEqual({target: result for target, result in control.items() if result != "reached"}, {})

with subtest("what is listed is reached, by address and by name, over IPv4 and IPv6"):
    before = {name: passed(name) for name in ("resolver", "public", "private", "host", "metadata")}
    results, answer = tries(*LISTED)
    t.assertEqual({target: result for target, result in results.items() if result != "reached"}, {}, answer)
    t.assertEqual(answer["run"]["network_error"], None)
    # The host's table has let the connections and the queries through, and had nothing to refuse.
    t.assertGreater(passed("resolver"), before["resolver"])
    t.assertGreater(passed("public"), before["public"])
    t.assertEqual([passed(name) - before[name] for name in ("private", "host", "metadata")], [0, 0, 0])

with subtest("what is not is refused, told, counted and written down, though it is there"):
    count = counted("codesandbox_network_denied_total")
    results, answer = tries(*ADDRESSES, DAEMON_SOCKET)
    t.assertEqual(results.pop(DAEMON_SOCKET), "ENOENT")
    for target, outcome in results.items():
        refused = {"ECONNRESET", "ECONNREFUSED", "EACCES", "EPERM", "EHOSTUNREACH"}
        if ADDRESSES[target] == ("tcp", "private"):
            # Their resets are swallowed by IPAddressDeny= of the unit: it is the uplink that ends them.
            refused.add("ECONNABORTED")
        assert outcome in refused, (target, outcome)
    flows = {(address, port, protocol, reason) for _, address, port, protocol, reason in told(answer)}
    for target, (protocol, reason) in ADDRESSES.items():
        address, port = target.split(":", 1)[1].split("@")
        # It never was one of IPv6.
        assert (address.removeprefix("::ffff:"), int(port), protocol, reason) in flows, (target, flows)
    t.assertGreaterEqual(counted("codesandbox_network_denied_total") - count, len(ADDRESSES) - 1)
    machine.succeed("journalctl --sync; "
                    f"journalctl --quiet --unit={DAEMON} --output=cat | grep -q 'the network policy refused '")
    t.assertEqual([passed(name) - before[name] for name in ("private", "host", "metadata")], [0, 0, 0])

with subtest("a name that leads to what may not be reached does not exist; one that is not listed is not asked for"):
    results, answer = tries(*NAMES)
    t.assertEqual([target for target, result in results.items() if not result.startswith("no such name")], [], results)
    names = {(name, reason) for name, _, _, protocol, reason in told(answer) if protocol == "dns"}
    for target, reason in NAMES.items():
        assert (target.split(":", 1)[1].split("@")[0], reason) in names, (target, names)
    # Control: it is asked for what is listed.
    queries = asked()
    assert "private.example.net" in queries and "packages.example.org" in queries, queries
    t.assertEqual([name for name in queries if not name.endswith((".example.net", "packages.example.org"))], [])

with subtest("a name that is public and then private is what it is at the moment"):
    results, _ = tries("tcp:rebinding.example.net@443")
    t.assertEqual(results, {"tcp:rebinding.example.net@443": "reached"})
    results, answer = tries("tcp:rebinding.example.net@443")
    assert results["tcp:rebinding.example.net@443"].startswith("no such name"), results
    assert ("rebinding.example.net", "10.77.0.2", None, "dns", "private") in told(answer), answer

with subtest("the second lock: an uplink's user in its group reaches the public and the name server alone"):
    first = int(machine.succeed("sed -n s/^codesandbox-launcher://p /etc/subuid").split(":")[0])
    query = ("import socket; client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.settimeout(10); "
             f"client.connect(('{NAME_SERVER}', 53)); "
             "client.send(bytes.fromhex('000101000001000000000000076578616d706c65036f72670000010001')); client.recv(500)")
    public = ["tcp:198.35.26.96@5432", "tcp:2620:0:860::96@5432", "tcp:151.101.66.132@443"]
    never = ["tcp:10.77.0.2@443", "tcp:169.254.169.254@80", "tcp:fd77::2@443", "tcp:10.77.0.53@443"]

    def as_uplink(command: str) -> str:
        identity = f"setpriv --reuid={first} --regid={first} --clear-groups"
        return machine.succeed(f"(echo $BASHPID > {GROUP}/uplinks/cgroup.procs; exec {identity} {command})")

    for lock in ("table and unit", "unit alone"):
        if lock == "unit alone":
            machine.succeed("nft delete table inet codesandbox")
        as_uplink(shlex.join(["python3", "-c", query]))
        results = json.loads(as_uplink(program("egress.py", *public, *never)))
        t.assertEqual([results[target] for target in public], ["reached"] * len(public), (lock, results))
        assert "reached" not in [results[target] for target in never[:3]], (lock, results)
    # The unit lets a name server be reached at every port; that it is one alone, the table says.
    machine.succeed("systemctl restart nftables.service")
    assert "reached" not in json.loads(as_uplink(program("egress.py", *never))).values()

session = Session(machine, profile="agent", runtimes=["bash", "python"])

with subtest("a session has its network, and tells what was refused"):
    results, result = in_session(LISTED[0], LISTED[2], "tcp:151.101.66.132@443")
    t.assertEqual([results[target] for target in (LISTED[0], LISTED[2])], ["reached"] * 2, result)
    t.assertNotEqual(results["tcp:151.101.66.132@443"], "reached")
    network = session.asked("GET", "/network")
    assert any(one["address"] == "151.101.66.132" and one["reason"] == "not_listed" for one in network["denied"]), network
    t.assertEqual(network["network_error"], None)

with subtest("uplinks are in a group of their own, with ids of their own"):
    own = uplinks()
    assert own and sorted(own) == sorted(named("uplink")), (own, named("uplink"))
    uids = {int(machine.succeed(f"stat --format=%u /proc/{pid}")) for pid in own}
    assert len(uids) == len(own) and all(uid >= first for uid in uids), uids
    t.assertEqual(set(own) & set(machine.succeed(f"cat {GROUP}/supervisor/cgroup.procs").split()), set())

with subtest("another daemon: the session's network goes on"):
    machine.succeed(f"systemctl restart {DAEMON}")
    t.assertEqual(in_session(LISTED[0])[0], {LISTED[0]: "reached"})
    t.assertEqual(uplinks(), own)

with subtest("an uplink that is killed takes its job's network along, which is told; the next has another"):
    waits = "exec 3<>/dev/tcp/198.35.26.96/5432; read -r -N5 -u3 word; echo $word; read -r -u3 more; echo over"
    begin_jobs(machine, "held", bash(waits, profile="agent", limits={"wall_time_ms": 120_000}))
    retry(lambda last: len(uplinks()) > len(own), timeout=100)
    machine.wait_until_succeeds("ss -Htn state established dst 198.35.26.96 | grep -q .", timeout=100)
    machine.succeed("kill -KILL " + " ".join(set(uplinks()) - set(own)))
    held, = end_jobs(machine, "held")
    t.assertEqual(held["body"]["run"]["stdout"], "hello\nover\n", held)
    assert held["body"]["run"]["network_error"], held
    reaches()

with subtest("what makes uplinks is killed: there is another, and those that there are go on"):
    zygote, = named("zygote")
    machine.succeed(f"kill -KILL {zygote}")
    retry(lambda last: named("zygote") not in ([], [zygote]), timeout=60)
    t.assertEqual(in_session(LISTED[0])[0], {LISTED[0]: "reached"})
    t.assertEqual(uplinks(), own)
    reaches()

with subtest("what keeps that is killed as well: there is no network any more, which is told and counted"):
    keeper, = named("uplinks")
    errors = counted("codesandbox_network_errors_total")
    machine.succeed(f"kill -KILL {keeper}")
    retry(lambda last: not named("zygote") and not named("uplink"), timeout=60)
    reaches(False)
    assert in_session(LISTED[0])[0] != {LISTED[0]: "reached"}
    t.assertGreater(counted("codesandbox_network_errors_total"), errors)

with subtest("another launcher: jobs have a network"):
    session.asked("DELETE", "", code=204)
    machine.succeed(f"systemctl restart {LAUNCHER}")
    reaches()

with subtest("a secret that systemd hands to the launcher reaches its host and no sandbox"):
    make_vault()
    machine.succeed(f"mkdir -p {DROP_IN}")
    write(machine, f"{DROP_IN}/secret.conf", f"[Service]\nLoadCredential=forge:{SECRET}")
    machine.succeed("systemctl daemon-reload")
    config["secrets"] = {"forge": {"file": HANDED_OVER, "domains": ["vault.example.net"]}}
    config["profiles"]["agent"]["network"]["secrets"] = {"FORGE_TOKEN": "forge"}
    config["network"]["ca_certificates"] = CERTIFICATES
    configure(machine, config)
    for value in ("correct-horse-battery", "another-horse-battery"):
        keep(value)
        answer, = run_jobs(machine, python(ASKS, profile="agent", limits={"wall_time_ms": 120_000}))
        placeholder, word = answer["run"]["stdout"].split()
        t.assertEqual(word, "fine", answer)
        assert value not in str(answer) and placeholder != value, answer
        t.assertEqual(shown()[-1], f"Bearer {value}")
    # Nobody else can read it, and nobody without it is let through under its name.
    machine.fail(f"runuser -u codesandbox -- cat {HANDED_OVER}")
    machine.succeed(f"rm -r {DROP_IN}; systemctl daemon-reload; systemctl restart {LAUNCHER}")
    answer, = run_jobs(machine, python(ASKS, profile="agent", limits={"wall_time_ms": 120_000}))
    assert answer["run"]["status"] != "ok" and "forge" in answer["run"]["network_error"], answer
    t.assertEqual(len(shown()), 2)

with subtest("nothing is left"):
    have_none_wait(machine)
    retry(lambda last: not named("uplink") and not uplinks(), timeout=60)
    t.assertEqual(machine.succeed("ss -Htn state established dst 198.35.26.96"), "")
    answer, = ask(machine, ("GET", "/health"))
    t.assertEqual(answer["code"], 200)
    machine.succeed("systemctl stop internet.service own.service vault.service; ip netns delete outside")
