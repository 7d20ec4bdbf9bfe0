"""A configuration that can't be used stops the daemon at its start, with file, line and key, and for good."""

import json
import re

from codesandbox_vm import Answer, configuration, configure, health, write

CONFIG = "/etc/codesandbox/config.json"
UNIT = "codesandboxd.service"
LAUNCHER = "codesandbox-launcher.service"
EX_CONFIG = "78"
CLIENT = {"users": [], "weight": 1, "concurrency": 0, "queue_length": 1, "profiles": []}
BAD_MANIFEST = "/etc/codesandbox/no-json.json"
GONE = "/etc/codesandbox/gone.json"


def changed(place: str, value: object) -> str:
    """The configuration with another value at a place such as `service.queue_length`, one key a line."""
    config: Answer = json.loads(json.dumps(good))
    *parents, last = place.split(".")
    section = config
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    return json.dumps(config, indent=2)


def line_of(text: str, key: str) -> int:
    """The line on which a quoted text stands last: of a key that stands twice, the second."""
    return max(number for number, line in enumerate(text.splitlines(), 1) if key in line)


def start() -> str:
    """Starts the daemon, which must fail at once and once; what it says."""
    told = machine.succeed(f"""
        journalctl --sync; cursor=$(journalctl --quiet -n 0 --show-cursor | sed -n 's/^-- cursor: //p')
        systemctl reset-failed {UNIT}
        if systemctl start {UNIT}; then exit 1; fi
        journalctl --sync; journalctl --quiet --output=cat --unit={UNIT} --after-cursor="$cursor"
    """, timeout=120)
    facts = machine.get_unit_info(UNIT)
    state = {name: facts[name] for name in ("ActiveState", "Result", "ExecMainStatus", "NRestarts")}
    t.assertEqual(state, {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": EX_CONFIG, "NRestarts": "0"})
    return told


good = configuration(machine)
DAEMON = machine.succeed(f"systemctl cat {UNIT} | sed -n 's/^ExecStart=\\([^ ]*\\).*/\\1/p'").strip()
CHECK = f"{DAEMON} --check-config --config {CONFIG}"
LANGUAGE = {"language": "cobol", "version": "1", "programs": {}, "path": [], "closure": []}
write(machine, BAD_MANIFEST, "runtimes: none")
write(machine, "/etc/codesandbox/cobol.json", json.dumps({"runtimes": [LANGUAGE]}))

# What is written, the text on whose line the fault lies, and what is said of it.
CASES = {
    "an unknown key": (changed("service.queue", 1), '"queue"', "service.queue: unknown field"),
    "a wrong type": (changed("service.queue_length", "many"), '"many"', "service.queue_length: invalid type"),
    "a wrong sign": (changed("service.outputs.files", -1), '-1', "service.outputs.files: invalid value"),
    "out of range": (changed("profiles.judge.run.processes", 0), '"processes": 0', "profiles.judge.run: processes is 0"),
    "above its maximum": (
        changed("profiles.default.run.wall_time_ms", 999_999_999), "999999999", "profiles.default.run: wall_time_ms"),
    "more than may wait": (
        changed("pool", {"floor": 33}), '"floor"', "pool.floor: 33 can't wait where ceiling is 32"),
    "more than may wait of a runtime": (
        changed("pool", {"ceiling": 0, "runtimes": {"bash-5.2": {"floor": 7}}}), '"floor": 7',
        "pool.runtimes.bash-5.2.floor: 7 can't wait where ceiling is 0"),
    "a profile that is not there": (
        changed("clients.judges", CLIENT | {"profiles": ["fast"]}), '"fast"',
        'clients.judges.profiles[0]: there is no profile "fast"'),
    "a user that is not there": (
        changed("clients.judges", CLIENT | {"users": ["nobody-knows"]}), '"nobody-knows"',
        'clients.judges.users[0]: this host has no user "nobody-knows"'),
    "a filter that is not there": (
        changed("profiles.default.seccomp", "loose"), '"loose"', "profiles.default.seccomp: there is no"),
    "a default that is not there": (
        changed("runtimes.defaults", {"python": {"2.4": 1}}), '"2.4"',
        'runtimes.defaults.python: there is no version "2.4"'),
    "a manifest that is not there": (
        changed("runtimes.manifest", GONE), GONE, f"runtimes.manifest: {GONE}: No such file"),
    "a manifest that is not JSON": (
        changed("runtimes.manifest", BAD_MANIFEST), BAD_MANIFEST, "runtimes.manifest: its file can't be used"),
    "a language of the manifest that nobody knows": (
        changed("runtimes.manifest", "/etc/codesandbox/cobol.json"), "cobol.json", 'runtimes.manifest names the language "cobol"'),
    "a key twice": ('{\n  "service": {},\n  "launcher": {},\n  "service": {}\n}', '"service"', "service: this key stands twice"),
    "another format": ('{}\n[service]\nconcurrency = 1', "[service]", "this is not JSON"),
    "an empty file": ("", "", "this is not JSON"),
}
# Known to the host alone, and so nothing that is checked elsewhere.
OF_THE_HOST = {"a user that is not there": "ok: ", "a manifest that is not there": f"not checked, because it is not here: {GONE}"}

with subtest("the control: the configuration as it was installed is good"):
    machine.succeed(f"{CHECK} && {health()}", f"systemctl stop {UNIT} {LAUNCHER}")

for name, (text, fault, says) in CASES.items():
    with subtest(name):
        write(machine, CONFIG, text)
        if not text:
            machine.succeed(f"truncate --size=0 {CONFIG}")
        sentence = f"{CONFIG}:{line_of(text, fault) if text else 1}: {says}"
        told = start()
        assert sentence in told, f"{sentence}\n{told}"
        status, checked = machine.execute(f"{CHECK} 2>&1")
        if name in OF_THE_HOST:
            assert status == 0 and OF_THE_HOST[name] in checked, checked
        else:
            assert str(status) == EX_CONFIG and sentence in checked, f"{status} {checked}"

with subtest("no file at all"):
    machine.succeed(f"rm {CONFIG}")
    assert f"{CONFIG}: No such file" in start()

with subtest("a launcher that can't use it stops for good as well"):
    write(machine, CONFIG, CASES["an unknown key"][0])
    machine.succeed(f"systemctl start {LAUNCHER}")
    machine.wait_until_succeeds(f"systemctl is-failed {LAUNCHER}", timeout=60)
    facts = machine.get_unit_info(LAUNCHER)
    t.assertEqual((facts["ExecMainStatus"], facts["NRestarts"]), (EX_CONFIG, "0"))

with subtest("the good one again, and it serves"):
    configure(machine, good)
    machine.succeed(f"systemctl reset-failed {UNIT} {LAUNCHER}; {CHECK}; systemctl start {UNIT}")
    assert re.match("HTTP/1.1 200", machine.succeed(health().replace("curl ", "curl --include ", 1)))
