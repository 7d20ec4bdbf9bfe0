"""Boot program of Python: the whole start of the interpreter, up to where it reads its program.

The interpreter's own code runs the program, in `__main__` and with no frame below it. It is started
with a file that does not exist yet. `site` imports this module, which makes that file, with the
mark of compiled code and nothing else in it, and has itself called once more when the interpreter
has opened the file and is about to read it. There it waits for the job, compiles the program, and
fills the file with the compiled code, which bears the program's own name. Whatever can not be done
like that, a syntax error for one, is left to a plain interpreter that takes this one's place.
"""

import os


def _boot():
    import marshal
    import posix
    import sys

    # All of these are loaded in every interpreter; another would stay behind in `sys.modules`.
    external = sys.modules["_frozen_importlib_external"]
    string_stream = sys.modules["_io"].StringIO
    plain_loader = external.SourcelessFileLoader

    with open("/proc/self/cmdline", "rb") as file:
        interpreter, placeholder = file.read().split(b"\0")[:2]
    code_file = os.open(placeholder, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(code_file, external.MAGIC_NUMBER)

    def serve(name, path):
        """Called by the interpreter in place of the loader of compiled files."""
        external.SourcelessFileLoader = plain_loader
        sys.path_importer_cache.pop(path, None)
        os.unlink(path)
        os.write(4, b"!")
        os.close(4)
        arguments, environment = receive()
        try:
            filename, code = load(arguments)
        except BaseException:
            # Nothing has been read from or written to the outside by now.
            execute(arguments, environment)
        replace_environment(environment)
        sys.argv[:] = arguments[1:]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = arguments
        sys.path[0] = os.path.dirname(os.path.realpath(arguments[1]))
        sys.path_importer_cache[filename] = None
        sys.modules["__main__"].__file__ = filename
        os.pwrite(code_file, external.MAGIC_NUMBER + bytes(12) + marshal.dumps(code), 0)
        os.close(code_file)
        # Frees the functions of this module, which hold each other.
        globals().clear()
        return external.SourceFileLoader(name, filename)

    def receive():
        job = bytearray()
        while True:
            part = os.read(3, 65536)
            if not part:
                break
            job += part
        os.close(3)
        if not job:
            os._exit(0)
        strings = bytes(job).split(b"\0")[:-1]
        first_variable = 1 + int(strings[0])
        return [os.fsdecode(argument) for argument in strings[1:first_variable]], strings[first_variable:]

    def load(arguments):
        """The main file's name, as the interpreter would say it, and its code."""
        if os.fsencode(arguments[0]) != interpreter or arguments[1][:1] == "-":
            raise ValueError
        filename = arguments[1]
        if sys.version_info >= (3, 9) and filename[:1] != "/":
            filename = os.getcwd() + "/" + filename
        for hook in sys.path_hooks:
            try:
                hook(filename)
            except ImportError:
                continue
            # A directory or an archive, which the interpreter runs in another way.
            raise ValueError
        with open(filename, "rb", 0) as file:
            source = file.read()
        if b"\0" in source or filename[-4:] == ".pyc" or source[:2] == external.MAGIC_NUMBER[:2]:
            raise ValueError
        # Another encoding than the usual one goes through a codec that sees a file in lines.
        source.decode()
        for line in source.split(b"\n", 2)[:2]:
            if b"coding" in line and b"utf-8" not in line:
                raise ValueError
        return filename, compile_silently(source, filename)

    def compile_silently(source, filename):
        """Compiles, unless the compiler has something to say."""
        error_stream = sys.stderr
        sys.stderr = heard = string_stream()
        try:
            code = compile(source, filename, "exec", dont_inherit=True)
        finally:
            sys.stderr = error_stream
        if heard.getvalue():
            raise ValueError
        return code

    def replace_environment(environment):
        for variable in list(os.environb):
            os.unsetenv(variable)
        os.environ._data.clear()
        posix.environ.clear()
        for variable in environment:
            variable, _, value = variable.partition(b"=")
            os.environb[variable] = value
            posix.environ[variable] = value

    def execute(arguments, environment):
        os.execve(arguments[0], arguments, dict(variable.split(b"=", 1) for variable in environment))

    external.SourcelessFileLoader = serve


def _vanish():
    """Takes away what brought this module in, and does what `site` would have done without it."""
    import sys

    here = os.path.dirname(__file__)
    if here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    sys.modules.pop(__name__, None)
    # A vain search, which fills the caches of the path and ends with the error that `site` takes
    # for the absence of such a module; or the runtime has one of its own, and here it is.
    import usercustomize


# A further interpreter in the same process starts with the first one's search path, but not with
# this variable, which is gone by then.
if os.environ.get("PYTHONPATH") == os.path.dirname(__file__):
    _boot()
_vanish()
