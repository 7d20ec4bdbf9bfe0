"""A client of `codesandbox mcp`, by the library that clients are written with.

usage: client.py MODE SERVER CHECK [ARGUMENT ...]

MODE is how the protocol's version is agreed upon, `legacy` or `auto`. SERVER is JSON: {"url": ...} or {"command": [...]}.
CHECK is one of the functions below; it fails by an exception.
"""

import asyncio
import base64
import contextlib
import json
import sys

import anyio
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
MODE, SERVER = sys.argv[1], json.loads(sys.argv[2])


def client() -> Client:
    if "url" in SERVER:
        return Client(SERVER["url"], mode=MODE)
    command, *arguments = SERVER["command"]
    return Client(StdioServerParameters(command=command, args=arguments), mode=MODE)


def text(result) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def images(result) -> list:
    return [block for block in result.content if block.type == "image"]


async def good(mcp, name, **arguments):
    result = await mcp.call_tool(name, arguments)
    assert not result.is_error, f"{name}: {text(result)}"
    assert result.structured_content is not None, name
    return result


async def refused(mcp, name, *words, **arguments):
    """A call that the model is told how to mend."""
    result = await mcp.call_tool(name, arguments)
    assert result.is_error, f"{name}: {result.structured_content}"
    for word in words:
        assert word in text(result), f"{word!r} is not in {text(result)!r}"


async def tools(mcp):
    listed = (await mcp.list_tools()).tools
    names = {tool.name for tool in listed}
    assert {"run_code", "list_runtimes"} <= names, names
    if "--sessions" in sys.argv:
        assert len(names) == 15, names
    else:
        assert len(names) == 2, names
    for tool in listed:
        assert tool.description and tool.input_schema and tool.output_schema and tool.annotations, tool
    assert "run_code" in mcp.instructions, mcp.instructions
    with contextlib.suppress(MCPError):
        await mcp.call_tool("no_such_tool", {})
        raise AssertionError("there is no such tool")


async def run(mcp):
    result = await good(mcp, "run_code", runtime="python", code="print(input() * 2)", stdin="ab\n")
    assert result.structured_content["stdout"] == "abab\n", result.structured_content
    assert text(result).startswith("status: ok (exit code 0"), text(result)
    result = await good(mcp, "run_code", language="python", code="import sys; sys.exit('gone wrong')")
    assert result.structured_content["exit_code"] == 1 and "gone wrong" in text(result)
    files = [{"path": "main.py", "content": "import b; print(b.x)"}, {"path": "b.py", "content": "x = 7"}]
    result = await good(mcp, "run_code", runtime="python", files=files)
    assert result.structured_content["stdout"] == "7\n"
    result = await good(mcp, "run_code", runtime="python", code="while True: pass", timeout_ms=300)
    assert result.structured_content["status"] == "wall_time_exceeded" and "timeout_ms" in text(result)
    result = await good(mcp, "run_code", runtime="c", code="int main(void) { return x; }")
    assert result.structured_content["status"] == "compile_failed", result.structured_content
    assert "undeclared" in text(result), text(result)
    # Refused by the sandbox, and told plainly.
    connect = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError as e: print(e)"
    result = await good(mcp, "run_code", runtime="python", code=connect)
    assert result.structured_content["refused"] and "network" in text(result), text(result)


async def mend(mcp):
    await refused(mcp, "run_code", "near", "python", runtime="pyton", code="1")
    await refused(mcp, "run_code", "timeout_ms", "maximum", runtime="python", code="1", timeout_ms=10**12)
    await refused(mcp, "run_code", "tmeout", "timeout_ms", runtime="python", code="1", tmeout=5)
    await refused(mcp, "run_code", "code", runtime="python")
    await refused(mcp, "run_code", "allow_hosts", runtime="python", code="1", allow_hosts=["x:y"])
    await good(mcp, "run_code", runtime="python", code="1")


async def pictures(mcp):
    save = f"open('plot.png', 'wb').write({PNG!r})"
    result = await good(mcp, "run_code", runtime="python", code=save)
    [image] = images(result)
    assert image.mime_type == "image/png" and base64.b64decode(image.data) == PNG
    [file] = result.structured_content["files"]
    [content] = (await mcp.read_resource(file["uri"])).contents
    assert base64.b64decode(content.blob) == PNG and content.mime_type == "image/png"
    # What has another content than its name says is none, and neither is what nobody could look at.
    result = await good(mcp, "run_code", runtime="python", code="open('plot.png', 'w').write('no image')")
    assert not images(result) and "not shown" in text(result), text(result)
    many = f"for i in range(9): open(f'{{i}}.png', 'wb').write({PNG!r})"
    result = await good(mcp, "run_code", runtime="python", code=many)
    assert len(images(result)) == 4, text(result)
    result = await good(mcp, "run_code", runtime="python", code="open('a.svg', 'w').write('<svg/>')")
    [drawing] = [block for block in result.content if block.type == "resource"]
    assert drawing.resource.text == "<svg/>" and drawing.resource.mime_type == "image/svg+xml"


async def long(mcp):
    code = "for i in range(50000): print('line', i)"
    result = await good(mcp, "run_code", runtime="python", code=code)
    told = result.structured_content
    assert told["truncated"] and len(text(result)) < 20_000, len(text(result))
    assert told["stdout"].startswith("line 0\n") and told["stdout"].endswith("line 49999\n")
    assert "left out" in told["stdout"]
    uri = next(word for word in text(result).split() if word.startswith("codesandbox://runs/"))
    found = ""
    while uri:
        [content] = (await mcp.read_resource(uri)).contents
        assert len(content.text) <= 256 << 10
        found += content.text
        uri = (content.meta or {}).get("codesandbox/next")
    assert found == "".join(f"line {i}\n" for i in range(50000))
    result = await good(mcp, "run_code", runtime="python", code=code, max_output=100)
    assert len(text(result)) < 1000, text(result)


async def sessions(mcp):
    made = (await good(mcp, "session_create", runtimes=["python@3.11", "bash"])).structured_content
    id = made["session"]
    listed = (await good(mcp, "session_list")).structured_content["sessions"]
    assert [session["session"] for session in listed] == [id], listed
    await good(mcp, "file_write", session=id, path="src/a.py", content="print('from a file')\n")
    result = await good(mcp, "session_exec", session=id, command="python3 src/a.py && echo err >&2; exit 3")
    told = result.structured_content
    assert told["stdout"] == "from a file\n" and told["stderr"] == "err\n", told
    assert told["outcome"]["exit_code"] == 3 and not told["running"], told
    [log] = (await mcp.read_resource(told["log"])).contents
    assert log.text == "from a file\nerr\n", log
    result = await good(mcp, "session_exec", session=id, argv=["cat"], stdin="passed on")
    assert result.structured_content["stdout"] == "passed on"
    # Files.
    result = await good(mcp, "file_read", session=id, path="src/a.py")
    assert result.structured_content["content"] == "print('from a file')\n"
    await good(mcp, "file_write", session=id, path="src/a.py", content="# more\n", append=True)
    await good(mcp, "file_write", session=id, path="p.png", content_base64=base64.b64encode(PNG).decode())
    assert len(images(await good(mcp, "file_read", session=id, path="p.png"))) == 1
    entries = (await good(mcp, "file_list", session=id, depth=2)).structured_content["entries"]
    assert {entry["path"] for entry in entries} >= {"src", "src/a.py", "p.png"}, entries
    await good(mcp, "file_write", session=id, path="long.txt", content="ä" * 20_000)
    found, offset = "", 0
    while offset is not None:
        part = (await good(mcp, "file_read", session=id, path="long.txt", offset=offset)).structured_content
        found, offset = found + part["content"], part.get("next_offset")
    assert found == "ä" * 20_000
    resources = [str(resource.uri) for resource in (await mcp.list_resources()).resources]
    assert "codesandbox://runtimes" in resources and f"codesandbox://sessions/{id}/files/" in resources, resources
    [file] = (await mcp.read_resource(f"codesandbox://sessions/{id}/files/src/a.py")).contents
    assert file.text == "print('from a file')\n# more\n"
    [blob] = (await mcp.read_resource(f"codesandbox://sessions/{id}/files/p.png")).contents
    assert base64.b64decode(blob.blob) == PNG and blob.mime_type == "image/png"
    [directory] = (await mcp.read_resource(f"codesandbox://sessions/{id}/files/src")).contents
    assert "src/a.py" in directory.text, directory
    assert len((await mcp.list_resource_templates()).resource_templates) == 3
    # Snapshots.
    taken = (await good(mcp, "session_snapshot", session=id, label="before")).structured_content["snapshot"]
    await good(mcp, "session_exec", session=id, command="rm -r src")
    await refused(mcp, "file_read", session=id, path="src/a.py")
    await good(mcp, "session_rollback", session=id, snapshot=taken)
    await good(mcp, "file_read", session=id, path="src/a.py")
    fork = (await good(mcp, "session_fork", session=id)).structured_content["session"]
    await good(mcp, "session_exec", session=fork, command="rm -r src")
    await good(mcp, "file_read", session=id, path="src/a.py")
    for one in (fork, id):
        await good(mcp, "session_close", session=one)
    assert (await good(mcp, "session_list")).structured_content["sessions"] == []
    await refused(mcp, "session_exec", "session_create", session=id, command="true")


async def background(mcp):
    id = (await good(mcp, "session_create", runtimes=["bash"])).structured_content["session"]
    script = "while read line; do echo got $line; done; echo end >&2"
    result = await good(mcp, "session_exec", session=id, command=script, background=True, interactive=True)
    exec = result.structured_content["exec"]
    assert result.structured_content["running"]
    await good(mcp, "session_input", session=id, exec=exec, text="one\n")
    found, place = "", 0
    while "got one" not in found:
        told = (await good(mcp, "session_output", session=id, exec=exec, from_stdout=place, wait_ms=200)).structured_content
        found, place = found + told["stdout"], told["next_stdout"]
    assert told["running"]
    await good(mcp, "session_input", session=id, exec=exec, text="two\n", close=True)
    told = (await good(mcp, "session_output", session=id, exec=exec, from_stdout=place, wait_ms=60_000)).structured_content
    assert told["stdout"] == "got two\n" and told["stderr"] == "end\n" and not told["running"], told
    result = await good(mcp, "session_exec", session=id, command="exec sleep 1000", background=True)
    exec = result.structured_content["exec"]
    await good(mcp, "session_input", session=id, exec=exec, signal="SIGTERM")
    told = (await good(mcp, "session_output", session=id, exec=exec, wait_ms=60_000)).structured_content
    assert told["outcome"]["signal"] == "SIGTERM", told
    # Much output, in parts that fit together.
    result = await good(mcp, "session_exec", session=id, command="seq 20000", background=True)
    exec, found, more, place = result.structured_content["exec"], "", True, 0
    while more:
        told = (await good(mcp, "session_output", session=id, exec=exec, from_stdout=place, wait_ms=60_000)).structured_content
        found, place, more = found + told["stdout"], told["next_stdout"], told["truncated"]
    assert found == "".join(f"{i}\n" for i in range(1, 20001))
    await refused(mcp, "session_output", session=id, exec=999)


async def cells(mcp):
    id = (await good(mcp, "session_create", runtimes=["python"])).structured_content["session"]
    await good(mcp, "session_code", session=id, code="x = 6")
    result = await good(mcp, "session_code", session=id, code="print('hm'); x * 7")
    told = result.structured_content
    assert told["value"] == "42" and told["output"] == "hm\n" and told["status"] == "ok", told
    show = f"class P:\n  def _repr_png_(self): return {PNG!r}\nP()"
    result = await good(mcp, "session_code", session=id, code=show)
    [image] = images(result)
    assert base64.b64decode(image.data) == PNG and result.structured_content["images"] == 1
    told = (await good(mcp, "session_code", session=id, code="1 / 0")).structured_content
    assert told["status"] == "error" and "ZeroDivisionError" in told["error"], told
    told = (await good(mcp, "session_code", session=id, code="while True: pass", timeout_ms=500)).structured_content
    assert told["status"] == "interrupted", told
    assert (await good(mcp, "session_code", session=id, code="x")).structured_content["value"] == "6"
    told = (await good(mcp, "session_code", session=id, code="x", restart=True)).structured_content
    assert "NameError" in told["error"], told
    await refused(mcp, "session_code", "python", session=id, code="1", language="cobol")


async def heedless(mcp):
    """Code that catches what is to end it."""
    id = (await good(mcp, "session_create", runtimes=["python"])).structured_content["session"]
    await good(mcp, "session_code", session=id, code="x = 1")
    code = "while True:\n  try:\n    while True: pass\n  except BaseException: pass"
    told = (await good(mcp, "session_code", session=id, code=code, timeout_ms=500)).structured_content
    assert told["status"] == "dead", told
    told = (await good(mcp, "session_code", session=id, code="x")).structured_content
    assert "NameError" in told["error"], told


async def progress(mcp):
    seen, enough = [], asyncio.Event()

    async def told(progress, total, message):
        seen.append((progress, message))
        if message and "tick" in message:
            enough.set()

    id = (await good(mcp, "session_create", runtimes=["python@3.11", "bash"])).structured_content["session"]
    # It waits for what only a client that was told can write: so it was told while the program ran.
    wait = "echo tick; while [ ! -e go ]; do sleep 0.05; done; echo tock"

    async def go():
        await enough.wait()
        await good(mcp, "file_write", session=id, path="go", content="")

    going = asyncio.create_task(go())
    result = await mcp.call_tool("session_exec", {"session": id, "command": wait}, progress_callback=told)
    await going
    assert result.structured_content["stdout"] == "tick\ntock\n", text(result)
    numbers = [number for number, _ in seen]
    assert numbers == sorted(set(numbers)), numbers
    seen.clear()
    await mcp.call_tool("run_code", {"runtime": "python", "code": "print('x')"}, progress_callback=told)
    assert any(message == "it runs" for _, message in seen), seen


async def cancel(mcp):
    """Starts programs that never end, and loses interest as soon as they run; they leave it to the test to look."""
    id = None
    if "--sessions" in sys.argv:
        id = (await good(mcp, "session_create", runtimes=["python@3.11"])).structured_content["session"]
    endless = "print('tick', flush=True)\nwhile True: pass"
    calls = [("run_code", {"runtime": "python", "code": endless, "timeout_ms": 60_000})]
    if id:
        calls.append(("session_exec", {"session": id, "argv": ["python3", "-c", endless]}))
        calls.append(("session_code", {"session": id, "code": endless}))
    for name, arguments in calls:
        begun = anyio.Event()

        async def told(progress, total, message, begun=begun):
            if message and "tick" in message:
                begun.set()

        async with anyio.create_task_group() as group:
            async def call():
                await mcp.call_tool(name, arguments, progress_callback=told)
                raise AssertionError(f"{name} ended")

            group.start_soon(call)
            await begun.wait()
            group.cancel_scope.cancel()
    if id:
        # The interpreter goes on, without what nobody waits for.
        assert (await good(mcp, "session_code", session=id, code="6 * 7")).structured_content["value"] == "42"
    print("cancelled", flush=True)
    # The server stays until the test has looked.
    await asyncio.to_thread(sys.stdin.readline)


async def foreign(mcp):
    """A session of somebody else, whose id is known."""
    id = next(word for word in sys.argv[4:] if not word.startswith("--"))
    await refused(mcp, "session_exec", "session_create", session=id, command="true")
    await refused(mcp, "file_read", session=id, path="x")
    await refused(mcp, "session_close", session=id)
    with contextlib.suppress(MCPError):
        await mcp.read_resource(f"codesandbox://sessions/{id}/files/x")
        raise AssertionError("it was read")
    assert (await good(mcp, "session_list")).structured_content["sessions"] == []


async def known(mcp):
    """The same where the server was told to let clients use all sessions."""
    id = next(word for word in sys.argv[4:] if not word.startswith("--"))
    result = await good(mcp, "session_exec", session=id, command="echo here")
    assert result.structured_content["stdout"] == "here\n"


async def create(mcp):
    """Makes a session, tells its id and leaves."""
    print((await good(mcp, "session_create", runtimes=["bash"])).structured_content["session"])


async def main():
    async with client() as mcp:
        await globals()[sys.argv[3]](mcp)


asyncio.run(main())
