"""The units permit all that a session can do: files, terminals, ports, interpreters, snapshots, forks, saving."""

import json
import re

from codesandbox_vm import Session, ask, have_none_wait, health, leftovers

SERVER = r"""
import socket
with socket.create_server(("127.0.0.1", 8000)) as server:
    print("listening", flush=True)
    while True:
        peer, _ = server.accept()
        with peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfrom within")
"""
TERMINAL = "import os; input(); print((*os.get_terminal_size(), os.isatty(2)))"
# Without programs that a runtime need not have.
SHOW = "echo \"$(<deep/down/file)\""
STATE = "/var/lib/codesandbox"
# Calls that a unit has refused, and programs that died of it.
REFUSED = "journalctl --boot --no-pager --output=cat | grep -E 'type=1326|code=killed, status=31'"

machine.succeed(health())
have_none_wait(machine)
session = Session(machine, labels={"of": "units"})

with subtest("a program runs, and its limits are held by its group"):
    hello = session.run("bash", "-c", "echo hello; echo oops >&2; pwd")
    t.assertEqual([hello["status"], hello["stderr"]], ["ok", "oops\n"])
    t.assertEqual(hello["stdout"], "hello\n/workspace\n")

with subtest("files go in and out, and programs see them"):
    session.asked("PUT", "/fs/file?path=deep/down/file", "written\n", code=204)
    t.assertEqual(session.run("bash", "-c", f"{SHOW}; echo more >> deep/down/file")["stdout"], "written\n")
    t.assertEqual(session.asked("GET", "/fs/file?path=deep/down/file"), "written\nmore\n")
    listed = session.asked("GET", "/fs/list?path=deep&depth=2")["entries"]
    t.assertEqual(sorted(entry["path"] for entry in listed), ["deep/down", "deep/down/file"])

with subtest("a terminal, with its size"):
    number = session.begin("python", "-c", TERMINAL, terminal={"rows": 24, "columns": 80})
    session.asked("POST", f"/execs/{number}/resize", {"rows": 40, "columns": 132}, code=204)
    session.asked("POST", f"/execs/{number}/stdin", "go\n", code=204)
    said = session.ended(number)
    assert said["status"] == "ok" and "(132, 40, True)" in said["stdout"], said

with subtest("a server that a program is"):
    number = session.begin("python", "-c", SERVER)
    machine.wait_until_succeeds(
        f"curl -sS --unix-socket /run/codesandbox/api.sock http://localhost{session.path}/execs/{number}/output | grep -q listening",
        timeout=200)
    t.assertEqual(session.asked("GET", "/ports/8000/any"), "from within")
    session.asked("GET", "/ports/8001/", code=502)
    session.asked("DELETE", f"/execs/{number}", code=204)

with subtest("an interpreter that keeps its variables"):
    context = session.asked("POST", "/contexts", {"language": "python"}, code=201)["id"]
    session.asked("POST", f"/contexts/{context}/execute", {"code": "x = 6"})
    answer = session.asked("POST", f"/contexts/{context}/execute", {"code": "x * 7"})
    t.assertEqual(answer["outputs"][0]["data"]["text/plain"], "42")
    session.asked("DELETE", f"/contexts/{context}", code=204)

with subtest("snapshots, roll back and forks"):
    snapshot = session.asked("POST", "/snapshots", {"label": "first"}, code=201)["id"]
    session.run("bash", "-c", "echo other > deep/down/file; echo new > new")
    fork = session.asked("POST", "/fork", {"snapshot": snapshot}, code=201)["id"]
    session.asked("POST", f"/snapshots/{snapshot}/rollback")
    t.assertEqual(session.run("bash", "-c", f"{SHOW}; echo *")["stdout"], "written\nmore\ndeep\n")
    was, = ask(machine, ("GET", f"/v1/sessions/{fork}/fs/file?path=deep/down/file"))
    t.assertEqual(was, {"code": 200, "body": "written\nmore\n"})
    ask(machine, ("DELETE", f"/v1/sessions/{fork}"))

with subtest("files of a persistent one are saved where the daemon may write, and nowhere else"):
    session.asked("POST", "/promote")
    session.asked("POST", "/stop")
    assert machine.succeed(f"ls {STATE}/workspaces/{session.id}").split()
    t.assertEqual(machine.succeed(f"stat --format=%U:%a {STATE}"), "codesandbox:700\n")
    t.assertEqual(session.run("bash", "-c", SHOW)["stdout"], "written\nmore\n")

with subtest("nothing is left of a session that is deleted, and no unit has refused anything"):
    session.asked("DELETE", code=204)
    session.asked("GET", code=404)
    # The launcher goes on: a process of its own user, which has five digits at most, as no sandbox's has.
    launcher = re.compile(r"process \d+ of user \d{1,5}: ")
    found = [line for line in leftovers(machine) if line.startswith(("cgroup", "process")) and "leaf-" not in line]
    left = [line for line in found if not launcher.match(line)]
    t.assertEqual(left, [])
    t.assertEqual(machine.succeed(f"ls {STATE}/workspaces"), "")
    machine.fail(REFUSED)
    print(json.dumps(ask(machine, ("GET", "/v1/sessions"))))
