"""Models and clients over TCP come in by sockets of systemd's, under units that may do little."""

import json
import shlex

from codesandbox_vm import Answer, configuration, configure

MCP = "http://localhost/mcp"
VERSION = "2025-06-18"
HEADERS = ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
JOB = {"runtime": "bash", "profile": "agent", "files": [{"content": "echo over TCP"}]}


def curl(*arguments: str) -> str:
    return shlex.join(["curl", "-sS", "--max-time", "100", *arguments])


def post(message: Answer, *headers: str) -> str:
    """The command that sends a message to the server for models."""
    named = [part for header in [*HEADERS, *headers] for part in ("-H", header)]
    return curl("--fail", "--unix-socket", "/run/codesandbox/mcp.sock", *named, "-d", json.dumps(message), MCP)


def said(text: str) -> Answer:
    """The last message of an answer, which is one of JSON or a stream of events."""
    events = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    answer: Answer = json.loads(next(event for event in [*reversed(events), text] if event))
    return answer


def over_tcp(path: str, *arguments: str) -> str:
    """Body and status of an answer."""
    return machine.succeed(curl("-w", "\n%{http_code}", *arguments, f"http://127.0.0.1:8731{path}"))


with subtest("a model's client runs a program under the unit's user, and a stranger does not get in"):
    machine.fail("systemctl is-active codesandbox-mcp.service")
    begin: Answer = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "vm", "version": "1"}}}
    machine.fail(f"runuser -u stranger -- {post(begin)}")
    machine.succeed(f"runuser -u client -- {post(begin)} -D /tmp/head > /tmp/begun")
    t.assertIn("result", said(machine.succeed("cat /tmp/begun")))
    session = machine.succeed("tr -d '\\r' < /tmp/head | sed -n 's/^mcp-session-id: *//Ip'").strip()
    headers = [f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {VERSION}"]
    machine.succeed(f"runuser -u client -- {post({'jsonrpc': '2.0', 'method': 'notifications/initialized'}, *headers)}")
    call: Answer = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "run_code", "arguments": {"runtime": "bash", "code": "echo by a model"}}}
    result = said(machine.succeed(f"runuser -u client -- {post(call, *headers)}"))
    assert not result["result"].get("isError") and "by a model" in json.dumps(result), result
    uid = machine.succeed("id -u codesandbox-mcp").strip()
    pid = machine.get_unit_property("codesandbox-mcp.service", "MainPID")
    t.assertEqual(machine.succeed(f"awk '/^Uid/ {{ print $2 }}' /proc/{pid}/status").strip(), uid)
    t.assertEqual(machine.succeed(f"awk '/^CapBnd/ {{ print $2 }}' /proc/{pid}/status").strip(), "0" * 16)

with subtest("whoever shows a token comes in over TCP, and nobody else"):
    made = machine.succeed("codesandbox token new laptop 2>&1").split()
    token = next(word for word in made if word.startswith("csb_"))
    hashed = next(word for word in made if "sha256:" in word).strip('",')
    config = configuration(machine)
    config["clients"]["remote"]["tokens"]["laptop"] = hashed
    configure(machine, config)
    machine.succeed("systemctl reload codesandboxd.service")
    request = ["-H", "Content-Type: application/json", "-d", json.dumps(JOB)]
    refused: list[list[str]] = [[], ["-H", "Authorization: Bearer csb_nobodys"]]
    for shown in refused:
        t.assertTrue(over_tcp("/v1/run", *shown, *request).endswith("\n401"))
        t.assertTrue(over_tcp("/health", *shown).endswith("\n401"))
    body, code = over_tcp("/v1/run", "-H", f"Authorization: Bearer {token}", *request).rsplit("\n", 1)
    t.assertEqual((code, json.loads(body)["run"]["stdout"]), ("200", "over TCP\n"))
    t.assertTrue(over_tcp("/metrics", "-H", f"Authorization: Bearer {token}").endswith("\n403"))

with subtest("the daemon has no network of its own, though it has the socket"):
    pid = machine.get_unit_property("codesandboxd.service", "MainPID")
    host, own = (machine.succeed(f"readlink /proc/{each}/ns/net") for each in ("1", pid))
    t.assertNotEqual(host, own)
