"""Programs of a runtime from the Nix store see its closure, read-only, and nothing else of the store."""

import json
import re
import shlex

from codesandbox_vm import Answer, Skip, configuration, have_none_wait, health, payload, program, python, run_jobs

OTHER = f"/nix/store/{'0' * 32}-outside"
STORE = "import json, os; print(json.dumps([os.listdir('/nix'), sorted(os.listdir('/nix/store'))]))"
NAMES = """
import json, os, subprocess, sys
links = {name: os.readlink(f'/runtime/bin/{name}') for name in os.listdir('/runtime/bin')}
with open('script', 'w') as file:
    file.write('#!/usr/bin/env python\\nimport sys; print(sys.executable)\\n')
os.chmod('script', 0o755)
run = lambda *command: subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()
print(json.dumps({'links': links, 'sh': run('/bin/sh', '-c', 'echo from $0'), 'script': run('./script'),
                  'executable': os.readlink('/proc/self/exe')}))
"""
LINKS = """
import os, sys
open('real.txt', 'w').write('real')
os.symlink(sys.argv[1] + '/secret', 'store.txt')
os.symlink(sys.argv[1], 'directory')
os.symlink('/etc/passwd', 'etc.txt')
os.symlink('../' * 20 + 'etc/shadow', 'up.txt')
"""
TRACE = "/sys/kernel/tracing"
EXEC = f"{TRACE}/events/sched/sched_process_exec/enable"

sources = configuration(machine)["runtimes"]
if "manifest" not in sources:
    raise Skip("no runtime is from the Nix store: the payload needs what nix/ci --runtimes leaves")
manifest = json.loads(machine.succeed(f"cat {sources['manifest']}"))
stored = {entry["language"]: entry for entry in manifest["runtimes"]}
PYTHON, BASH = stored["python"], stored["bash"]
interpreter = PYTHON["programs"]["python"]
home = next(path for path in PYTHON["closure"] if interpreter.startswith(f"{path}/"))
# What one has and the other has not.
own = [path for path in PYTHON["closure"] if path not in BASH["closure"]]


def in_python(source: str, **request: object) -> Answer:
    return python(source, **request) | {"runtime": f"python@{PYTHON['version']}"}


def in_bash(source: str) -> Answer:
    return python(source) | {"runtime": f"bash@{BASH['version']}"}


def names(paths: list[str]) -> list[str]:
    return sorted(path.removeprefix("/nix/store/") for path in paths)


def output(answer: Answer) -> str:
    assert answer["run"]["status"] == "ok", answer
    return str(answer["run"]["stdout"])


def runtime(language: str) -> Answer:
    """As the API lists it; without Python, whose files may be away."""
    listed = json.loads(machine.succeed(health("/v1/runtimes")))["runtimes"]
    return next(one for one in listed if one["language"] == language and one["source"] == "store")


def post(job: Answer) -> Answer:
    text = shlex.quote(json.dumps(job))
    command = health("/v1/run").replace(" --fail", " --header Content-Type:application/json --data-binary @-")
    answer: Answer = json.loads(machine.succeed(f"echo {text} | {command}"))
    return answer


# NixOS mounts the store read-only for everybody. A program that lies there and is in no closure:
machine.succeed(f"""
    mount -o remount,bind,rw /nix/store 2>/dev/null || true
    mkdir -p {OTHER}/bin; printf '#!/bin/sh\\necho ran\\n' > {OTHER}/bin/run; chmod 755 {OTHER}/bin/run
    echo secret > {OTHER}/secret
""")

with subtest("what is in the store is the closure, to the last name"):
    listing, bash_listing = run_jobs(machine, in_python(STORE), in_bash("cd /nix/store; echo *"))
    t.assertEqual(json.loads(output(listing)), [["store"], names(PYTHON["closure"])])
    t.assertEqual(output(bash_listing).split(), names(BASH["closure"]))
    assert own and set(names(own)).isdisjoint(output(bash_listing).split())

with subtest("programs stand where the manifest and scripts look for them"):
    answer, = run_jobs(machine, in_python(NAMES))
    found = json.loads(output(answer))
    t.assertEqual(found["links"]["python"], interpreter)
    t.assertEqual(found["links"][f"python{PYTHON['version']}"], interpreter)
    t.assertEqual(found["executable"], interpreter)
    t.assertEqual(found["sh"], "from /bin/sh")
    assert found["script"].startswith(("/runtime/bin/", "/nix/store/")), found

with subtest("nothing changes the store, leads out of it, or reaches anybody"):
    control = f"mount --bind {home} {home}; mount -o remount,bind,ro {home}; {program('tries_the_store.py', home, OTHER)}"
    outside = json.loads(machine.succeed(f"touch /etc/shadow; {control}"))
    t.assertEqual({name: error for name, error in outside.items() if error is not None}, {})
    tried, = run_jobs(machine, in_python(payload("tries_the_store.py"), args=[home, OTHER]))
    inside = json.loads(output(tried))
    t.assertEqual(sorted(inside), sorted(outside))
    t.assertEqual([name for name, error in inside.items() if error is None], [])
    machine.fail(f"mountpoint -q {home}")

with subtest("a program of another closure does not run"):
    t.assertEqual(machine.succeed(f"{OTHER}/bin/run; {interpreter} -c 'print(1)'"), "ran\n1\n")
    refused, = run_jobs(machine, in_bash(f"{OTHER}/bin/run; echo $?; {interpreter} -c 'print(1)'; echo $?"))
    t.assertEqual(output(refused), "127\n127\n")

with subtest("links among the results are not followed"):
    links, = run_jobs(machine, in_python(LINKS, args=[OTHER], outputs=["*.txt", "directory/**"]))
    t.assertEqual([(file["path"], file["content"]) for file in links["files"]], [("real.txt", "real")])
    reasons = {file["path"]: file["reason"] for file in links["omitted"]}
    assert {"store.txt", "etc.txt", "up.txt"} <= set(reasons), reasons

with subtest("a program is executed as it is: neither Nix nor a shell comes before it"):
    # Nor does an interpreter start that is to wait.
    have_none_wait(machine)
    machine.succeed(f"mountpoint -q {TRACE} || mount -t tracefs tracefs {TRACE}; echo > {TRACE}/trace; echo 1 > {EXEC}")
    run_jobs(machine, in_python("print(1)"))
    trace = machine.succeed(f"echo 0 > {EXEC}; cat {TRACE}/trace")
    executed = re.findall(r"sched_process_exec: filename=(\S+)", trace)
    t.assertEqual(executed.count(interpreter), 1, executed)
    assert not [path for path in executed if path.rsplit("/", 1)[-1].startswith("nix")], executed
    others = [path for path in executed if path.startswith("/nix/store/") and path != interpreter]
    assert not [path for path in others if any(path.startswith(f"{one}/") for one in PYTHON["closure"])], executed

with subtest("a runtime that lost a store path is listed as broken, and the others serve"):
    lost = next(path for path in own if path != home)
    machine.succeed(f"mv {lost} {OTHER}.lost; systemctl reload codesandboxd.service")
    listed = runtime("python")
    assert listed["health"]["state"] == "broken" and lost in listed["health"]["reason"], listed
    problem = post(in_python("print(1)"))
    assert problem["type"].endswith("broken-runtime") and lost in problem["detail"], problem
    t.assertEqual(post(in_bash("echo served"))["run"]["stdout"], "served\n")

with subtest("and works again when the path is back"):
    # As another file of the same name, which is how Nix brings it.
    machine.succeed(f"cp -a {OTHER}.lost {lost}; rm -r {OTHER}.lost {OTHER}; systemctl reload codesandboxd.service")
    again, = run_jobs(machine, in_python("import sqlite3, ssl; print('again')"))
    t.assertEqual(output(again), "again\n")
    assert runtime("python")["health"]["state"] != "broken"
