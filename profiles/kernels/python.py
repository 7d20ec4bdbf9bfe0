"""Kernel of Python: runs cells one after another in one namespace, and tells what comes of them.

Requests come in on descriptor 0 and messages go out on descriptor 1, a line of JSON each; README.md
has the contract. Both are put away before the first cell, so that 0, 1 and 2 are the cells' own.
Needs Python 3.8 and its standard library.
"""

import __future__
import ast
import base64
import builtins
import codecs
import fcntl
import importlib.util
import io
import json
import linecache
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
import types

# Longest message, with its end of line; the reader takes a longer one for a broken kernel.
LINE_BYTES = 16 << 20
# Longest plain text of one value, and longest traceback: what is beyond is of no use to a reader.
TEXT_CHARACTERS = 1 << 20
CHUNK_BYTES = 64 << 10
# How long small writes are gathered into one message.
GATHER_SECONDS = 0.01
# Readers of JSON give up at some depth.
JSON_DEPTH = 64
# How many results `Out` keeps alive.
KEPT_RESULTS = 1000
HERE = __file__
MAIN_THREAD = threading.get_ident()

MIME_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
FUTURES = 0
for _name in __future__.all_feature_names:
    FUTURES |= getattr(__future__, _name).compiler_flag


class StdinNotImplementedError(NotImplementedError):
    """Raised where a cell asks for input: there is nobody to give it."""


StdinNotImplementedError.__module__ = "builtins"


class Interrupts:
    """SIGINT is a KeyboardInterrupt in a cell's code, nothing between cells, and is put off while
    the kernel works in the cell's thread, so that no message is left half written."""

    def __init__(self):
        self.running = False
        self.depth = 0
        self.pending = False

    def install(self):
        signal.signal(signal.SIGINT, self.handle)

    def handle(self, number, frame):
        if not self.running:
            return
        if self.depth:
            self.pending = True
        else:
            raise KeyboardInterrupt

    def __enter__(self):
        if threading.get_ident() == MAIN_THREAD:
            self.depth += 1

    def __exit__(self, *error):
        if threading.get_ident() == MAIN_THREAD:
            self.depth -= 1
            if self.pending and not self.depth:
                self.pending = False
                if self.running:
                    raise KeyboardInterrupt


class Capture:
    """A standard stream of the cells and of their children: a pipe that the kernel reads."""

    def __init__(self, name, descriptor):
        self.name = name
        self.descriptor = descriptor
        reader, writer = os.pipe()
        os.dup2(writer, descriptor)
        self.reader = put_away(reader)
        # Held, so that the pipe has no end when a cell closes the descriptor.
        self.writer = put_away(writer)
        os.close(reader)
        os.close(writer)
        # The reader's side alone: it is another open file than the writers'.
        os.set_blocking(self.reader, False)
        self.capacity = fcntl.fcntl(self.reader, getattr(fcntl, "F_GETPIPE_SZ", 1032))
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")


class Wire:
    """The way out. Whoever holds it reads the captured streams and writes messages; so what was
    printed before a message was made is told before it."""

    def __init__(self, interrupts):
        self.interrupts = interrupts
        self.lock = threading.RLock()
        self.parent = None
        self.is_child = False
        self.requests = put_away(0)
        self.messages = put_away(1)
        # Where the kernel says why it failed itself.
        self.last_words = put_away(2)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.captures = Capture("stdout", 1), Capture("stderr", 2)
        self.flush_c = c_flush()

    def __enter__(self):
        self.interrupts.__enter__()
        self.lock.acquire()

    def __exit__(self, *error):
        self.lock.release()
        self.interrupts.__exit__()

    def tell(self, kind, content):
        line = encode(self.parent, kind, content)
        if len(line) > LINE_BYTES:
            note = "[%s of %d bytes was left out: too long]\n" % (kind, len(line))
            line = encode(self.parent, "stream", {"name": "stderr", "text": note})
        with self:
            if self.is_child:
                return
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self.messages, rest) :]

    def pump(self, capture):
        """Tells what was printed; no more than the pipe held when it was called, or one who goes on
        printing would hold it up for ever. Returns how much that was."""
        taken = 0
        with self:
            while taken < capture.capacity and not self.is_child:
                try:
                    data = os.read(capture.reader, CHUNK_BYTES)
                except BlockingIOError:
                    break
                taken += len(data)
                self.tell_text(capture, data)
        return taken

    def tell_text(self, capture, data, final=False):
        text = capture.decoder.decode(data, final)
        if text:
            self.tell("stream", {"name": capture.name, "text": text})

    def drain(self):
        """Tells all that was printed until now."""
        with self:
            self.flush_c()
            for capture in self.captures:
                self.pump(capture)
                self.tell_text(capture, b"", True)

    def watch(self):
        """Tells what is printed as it comes; the work of a thread."""
        poll = select.poll()
        for capture in self.captures:
            poll.register(capture.reader, select.POLLIN)
        taken = 0
        while True:
            poll.poll()
            # In a flood not, or its writers would wait for this.
            if taken < CHUNK_BYTES // 2:
                time.sleep(GATHER_SECONDS)
            with self:
                taken = sum(self.pump(capture) for capture in self.captures)

    def forked(self):
        """In the child of a fork: what it prints goes the way of every child's output, and it must
        not speak for the kernel."""
        # Another thread, which is not here any more, may have held it.
        self.lock = threading.RLock()
        self.is_child = True
        for descriptor in (self.requests, self.messages, self.last_words):
            os.close(descriptor)


class Output(io.RawIOBase):
    """A standard stream as Python code sees it: unbuffered, and in order with the other one."""

    latest = None

    def __init__(self, wire, capture):
        self.wire = wire
        self.capture = capture
        self.name = "<%s>" % capture.name
        self.mode = "wb"

    def write(self, data):
        if Output.latest is not self:
            # Two pipes don't know which was written first.
            if Output.latest is not None:
                self.wire.pump(Output.latest.capture)
            Output.latest = self
        rest = memoryview(data).cast("B")
        written = len(rest)
        while rest:
            rest = rest[os.write(self.capture.descriptor, rest) :]
        return written

    def writable(self):
        return True

    def fileno(self):
        return self.capture.descriptor

    def text(self):
        return io.TextIOWrapper(self, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)


class Cells:
    """The namespace, and the running of cells in it."""

    def __init__(self, wire, interrupts):
        self.wire = wire
        self.interrupts = interrupts
        self.loop = None
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.received = b""
        self.results = {}
        self.lasts = [None, None, None]
        # In the place of this file's own module, so that pickles and child processes find the cells' names.
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.names.update({"__builtins__": builtins, "Out": self.results})
        sys.modules["__main__"] = self.module

    def serve(self):
        while True:
            line = self.next_line()
            if line is None:
                return
            request = json.loads(line.decode())
            if request["msg_type"] == "execute_request":
                self.run(request["msg_id"], request["content"]["code"], request["content"]["execution_count"])

    def next_line(self):
        while b"\n" not in self.received:
            self.wait()
            data = os.read(self.wire.requests, CHUNK_BYTES)
            if not data:
                return None
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return line

    def wait(self):
        """Until there is a request. Tasks that cells have left behind go on meanwhile."""
        while self.loop is not None and not self.loop.is_closed():
            self.loop.add_reader(self.wire.requests, self.loop.stop)
            try:
                self.loop.run_forever()
                return
            except BaseException as error:
                self.tell_error(error)
            finally:
                if not self.loop.is_closed():
                    self.loop.remove_reader(self.wire.requests)

    def run(self, parent, code, count):
        error = None
        # What was printed between the cells belongs to the one before.
        self.wire.drain()
        self.wire.parent = parent
        self.interrupts.install()
        self.interrupts.pending = False
        try:
            try:
                self.interrupts.running = True
                self.wire.tell("status", {"execution_state": "busy"})
                try:
                    self.evaluate(code, count)
                finally:
                    show_figures()
            finally:
                self.interrupts.running = False
        except BaseException as raised:
            self.interrupts.running = False
            error = raised
        if self.wire.is_child:
            end_child(error)
        self.interrupts.install()
        self.wire.drain()
        if error is not None:
            self.tell_error(error)
        status = "ok" if error is None else "error"
        # Their frames hold the cell's values.
        error = None
        self.wire.tell("execute_reply", {"status": status, "execution_count": count})
        self.wire.tell("status", {"execution_state": "idle"})

    def evaluate(self, code, count):
        name = "<cell %d>" % count
        # No time of change: the cache then never looks for a file.
        linecache.cache[name] = len(code), None, code.splitlines(True), name
        # Both parts before either is run: an error of syntax is one of the whole cell.
        try:
            first_code, last, last_code = self.compile(code, name)
        except SyntaxError as error:
            if error.text is None and error.filename == name:
                error.text = linecache.getline(name, error.lineno or 0)
            raise
        self.execute(first_code)
        value = None if last is None else self.execute(last_code)
        if value is None or ends_with_semicolon(code, last):
            return
        self.keep(value, count)
        data, metadata = bundle(value)
        self.wire.drain()
        self.wire.tell("execute_result", {"data": data, "metadata": metadata, "execution_count": count})

    def compile(self, code, name):
        """All but a last expression, that expression, and its code."""
        tree = compile(code, name, "exec", ast.PyCF_ONLY_AST | self.flags, True)
        last = last_code = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = tree.body.pop()
        first_code = compile(tree, name, "exec", self.flags, True)
        self.flags |= first_code.co_flags & FUTURES
        if last is not None:
            last_code = compile(ast.Expression(last.value), name, "eval", self.flags, True)
        return first_code, last, last_code

    def execute(self, code):
        value = eval(code, self.names)
        # CO_COROUTINE: there is an `await` outside of every function.
        return self.complete(value) if code.co_flags & 0x80 else value

    def complete(self, coroutine):
        import asyncio

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:
            if not task.done():
                task.cancel()
                try:
                    self.loop.run_until_complete(task)
                except asyncio.CancelledError as cancelled:
                    # Where the cell waited.
                    raise interrupt.with_traceback(cancelled.__traceback__) from None
                except BaseException:
                    pass
            elif not task.cancelled():
                # Looked at, so that nobody complains that it was not.
                task.exception()
            raise

    def keep(self, value, count):
        if self.names.get("Out") is self.results and value is self.results:
            return
        old = dict(zip(("_", "__", "___"), self.lasts))
        self.lasts = [value] + self.lasts[:2]
        for name, new in zip(("_", "__", "___"), self.lasts):
            # A cell that uses the name for something else keeps it.
            if name not in self.names or self.names[name] is old[name]:
                self.names[name] = new
        self.names["_%d" % count] = value
        self.results[count] = value
        while len(self.results) > KEPT_RESULTS:
            oldest = next(iter(self.results))
            self.names.pop("_%d" % oldest, None)
            del self.results[oldest]

    def tell_error(self, error):
        try:
            value = str(error)
        except BaseException:
            value = "<str() of the exception failed>"
        try:
            lines = trace(error)
        except BaseException as failure:
            lines = ["<the traceback can't be formatted: %s>\n" % type(failure).__name__]
        kind = getattr(type(error), "__name__", "Exception")
        self.wire.tell("error", {"ename": kind, "evalue": value[:TEXT_CHARACTERS], "traceback": lines})


def put_away(descriptor):
    """A duplicate with a high number, which no executed program inherits."""
    for number in (500, 100, 10):
        try:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, number)
        except OSError:
            # Over the limit of open files.
            continue
    raise OSError("no descriptor is left")


def c_flush():
    """What flushes the buffers of C's own streams, which extensions print to."""
    try:
        import ctypes

        flush = ctypes.CDLL(None).fflush
    except Exception:
        return lambda: None
    return lambda: flush(None)


def encode(parent, kind, content):
    text = json.dumps({"parent_id": parent, "msg_type": kind, "content": content}, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # Half of a pair is no text. It can only be within a string, where a backslash is written twice.
        return re.sub("[\ud800-\udfff]", lambda half: "\\\\u%04x" % ord(half.group()), text).encode() + b"\n"


def plain(value, depth=0):
    """A value as JSON has it, whatever it was."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else safe_repr(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else repr(float(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if depth < JSON_DEPTH:
        if isinstance(value, dict):
            return {key if isinstance(key, str) else str(key): plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [plain(item, depth + 1) for item in value]
    return safe_repr(value)


def safe_repr(value):
    try:
        return repr(value)[:TEXT_CHARACTERS]
    except Exception as error:
        return "<%s: repr() failed: %s>" % (type(value).__name__, type(error).__name__)


def method(value, name):
    """A value's own method for a form, or None. One who has every attribute has none of them."""
    if isinstance(value, type):
        return None
    try:
        if getattr(value, "_a_method_that_nobody_has_", None) is not None:
            return None
        found = getattr(value, name, None)
    except Exception:
        return None
    return found if callable(found) else None


def bundle(value):
    """The forms in which a value can be shown, by MIME type, and what is said of them."""
    data, metadata = {}, {}

    def add(kind, form):
        if isinstance(form, tuple) and len(form) == 2:
            form, metadata[kind] = form[0], plain(form[1])
        if form is not None:
            data[kind] = plain(form)

    for kind, name in MIME_METHODS:
        form = method(value, name)
        if form is not None:
            try:
                add(kind, form())
            except Exception:
                # The other forms are as good as before.
                traceback.print_exc()
    if is_figure(value):
        add("image/png", picture(value))
    mimebundle = method(value, "_repr_mimebundle_")
    if mimebundle is not None:
        try:
            forms = mimebundle(include=None, exclude=None)
            if isinstance(forms, tuple):
                forms, about = forms
                metadata.update(plain(about))
            for kind, form in (forms or {}).items():
                add(kind, form)
        except Exception:
            traceback.print_exc()
    if "text/plain" not in data:
        data["text/plain"] = repr(value)
    text = data["text/plain"]
    if isinstance(text, str) and len(text) > TEXT_CHARACTERS:
        data["text/plain"] = "%s… (%d characters)" % (text[:TEXT_CHARACTERS], len(text))
    return data, metadata


def is_figure(value):
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, getattr(figure, "Figure", ()))


def picture(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def show_figures(*_, **__):
    """Shows the figures that are open, and closes them: pyplot's `show`, and the end of each cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if hasattr(pyplot, "get_fignums"):
        try:
            for number in pyplot.get_fignums():
                builtins.display(pyplot.figure(number))
        finally:
            pyplot.close("all")


class PyplotFinder:
    """Puts `show_figures` in the place of pyplot's own `show`, which has no window to show them in."""

    def find_spec(self, name, path=None, target=None):
        if name != "matplotlib.pyplot":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                module.show = show_figures

            spec.loader.exec_module = exec_module
        return spec


def ends_with_semicolon(code, last):
    lines = code.encode("utf-8", "replace").splitlines(True)[last.end_lineno - 1 :]
    rest = b"".join(lines)[last.end_col_offset :]
    return rest.lstrip(b" \t)").startswith(b";")


def trace(error):
    """The lines of a traceback, from the cell on and without this file's own."""
    entry = error.__traceback__
    while entry is not None and not entry.tb_frame.f_code.co_filename.startswith("<cell "):
        entry = entry.tb_next
    told = traceback.TracebackException(type(error), error, entry)
    leave_out(told)
    lines = list(told.format())
    if entry is None and lines and lines[0].startswith("Traceback "):
        del lines[0]
    left = TEXT_CHARACTERS
    for index, line in enumerate(lines):
        left -= len(line)
        if left < 0:
            return lines[:index] + [line[:left], "… (cut)\n"]
    return lines


def leave_out(told):
    pending, seen = [told], set()
    while pending:
        told = pending.pop()
        if told is None or id(told) in seen:
            continue
        seen.add(id(told))
        if told.stack is not None:
            told.stack[:] = [frame for frame in told.stack if frame.filename != HERE]
        pending += [told.__cause__, told.__context__]
        pending += getattr(told, "exceptions", None) or []


def end_child(error):
    """A cell has forked, and this is the child, at the cell's end: it ends as a program would."""
    status = 0
    if isinstance(error, SystemExit):
        if isinstance(error.code, int):
            status = error.code
        elif error.code is not None:
            print(error.code, file=sys.stderr)
            status = 1
    elif error is not None:
        sys.stderr.write("".join(trace(error)))
        status = 1
    os._exit(status & 0xFF)


def refuse_input(prompt=""):
    raise StdinNotImplementedError("a cell can't ask for input: nobody is there to give it")


def main():
    interrupts = Interrupts()
    interrupts.install()
    wire = Wire(interrupts)
    os.register_at_fork(after_in_child=wire.forked)
    outputs = [Output(wire, capture).text() for capture in wire.captures]
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = outputs
    threading.Thread(target=wire.watch, name="kernel output", daemon=True).start()

    def display(*values, metadata=None, raw=False):
        """Shows values in all the forms that they have; `raw` ones are dicts of such forms."""
        for value in values:
            data, about = (plain(value), {}) if raw else bundle(value)
            about.update(plain(metadata or {}))
            with wire:
                wire.drain()
                wire.tell("display_data", {"data": data, "metadata": about})

    builtins.display = display
    builtins.input = refuse_input
    # In the environment, so that it holds for programs that a cell starts as well.
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.meta_path.insert(0, PyplotFinder())
    if sys.version_info >= (3, 12):
        # The second thread is this kernel's, and made for forks.
        import warnings

        warnings.filterwarnings("ignore", r"This process .* is multi-threaded, use of fork", DeprecationWarning)
    sys.argv[:] = [""]
    # As in an interactive interpreter: the current directory, and not that of this file.
    if sys.path and os.path.abspath(sys.path[0] or ".") == os.path.dirname(os.path.abspath(HERE)):
        sys.path[0] = ""
    try:
        Cells(wire, interrupts).serve()
    except Exception:
        os.write(wire.last_words, traceback.format_exc().encode("utf-8", "replace"))
        os._exit(1)


main()
