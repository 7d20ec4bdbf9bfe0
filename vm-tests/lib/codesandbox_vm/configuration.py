"""Changes of a guest's configuration by hand, as an administrator makes them."""

import json
import shlex
from typing import Any

from .guest import Machine

CONFIG = "/etc/codesandbox/config.json"
MANIFEST = "/etc/codesandbox/runtimes.json"

Config = dict[str, Any]


def configuration(machine: Machine) -> Config:
    """What the service was installed with."""
    config: Config = json.loads(machine.succeed(f"cat {CONFIG}"))
    return config


def configure(machine: Machine, config: Config) -> None:
    """Writes the configuration, one key a line; the service has not read it yet."""
    write(machine, CONFIG, json.dumps(config, indent=2))


def write(machine: Machine, path: str, text: str) -> None:
    """Puts a file in the place of what was there, which on NixOS is a link into the store."""
    machine.succeed(f"printf '%s\\n' {shlex.quote(text)} > {path}.new; chmod 644 {path}.new; mv {path}.new {path}")


def add_language(machine: Machine, config: Config, name: str, compiler: str | None = None) -> None:
    """Adds a language to a configuration: Bash by another name, with a script for compiler if given."""
    language: Config = {
        "name": name, "title": name, "extensions": [name], "main": f"main.{name}", "program": "bash",
        "run": {"argv": ["{bash}", "--noprofile", "--norc", "{main}"]},
        "self_test": {"source": "echo works", "expect": "works\n"},
        "probe": {"argv": ["{bash}", "--version"], "pattern": "version ([0-9.]+)"},
        "versions": [{"programs": {"bash": "/usr/bin/bash"}}],
    }
    if compiler is not None:
        language["compile"] = {"argv": ["{bash}", "-c", compiler]}
    config.setdefault("languages", {})[name] = language
    if manifest := config["runtimes"].get("manifest"):
        # Where runtimes come from the store, the new one is made of the same paths.
        runtimes = json.loads(machine.succeed(f"cat {manifest}"))["runtimes"]
        runtimes += [entry | {"language": name} for entry in runtimes if entry["language"] == "bash"]
        write(machine, MANIFEST, json.dumps({"runtimes": runtimes}))
        config["runtimes"]["manifest"] = MANIFEST
