"""mypy and pyflakes on all scenarios, as the NixOS test driver does when it is built, and on ourselves."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import prelude
from .scenario import EPILOGUE, SCENARIOS, VM_TESTS, names

PRELUDE = Path(prelude.__file__)
DEBIAN, LIB = VM_TESTS / "debian", VM_TESTS / "lib"
TOOLS = ("mypy", "pyflakes3")


def check() -> bool:
    """Prints what is wrong; whether nothing is."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        print(f"not installed: {', '.join(missing)}; tests/setup does it", file=sys.stderr)
        return False
    scenarios = [SCENARIOS / f"{name}.py" for name in names()]
    with tempfile.TemporaryDirectory() as scratch:
        verdicts = [_states_its_claim(path) for path in scenarios]
        for path in scenarios:
            script = Path(scratch) / path.name
            script.write_text("".join(part.read_text() for part in (PRELUDE, path, EPILOGUE)))
            # One at a time: each declares the same globals, and mypy keeps what it knows of the rest.
            verdicts.append(_run(scratch, "mypy", "--no-implicit-optional", script))
        # Not what runs in the guest: those programs are alone with themselves.
        ours = [*(DEBIAN / "driver").glob("*.py"), *(LIB / "codesandbox_vm").glob("*.py")]
        verdicts.append(_run(scratch, "mypy", "--strict", "--explicit-package-bases", *ours))
        verdicts.append(_run(scratch, "pyflakes3", *scenarios))
        verdicts.append(_run(scratch, "pyflakes3", DEBIAN / "run", DEBIAN, LIB / "codesandbox_vm"))
    print(f"{len(scenarios)} scenarios, driver and library checked")
    return all(verdicts)


def _states_its_claim(path: Path) -> bool:
    if ast.get_docstring(ast.parse(path.read_text())):
        return True
    print(f"{path}: the first statement must be a docstring that states the claim")
    return False


def _run(scratch: str, *command: str | Path) -> bool:
    environment = os.environ | {
        "MYPYPATH": f"{DEBIAN}:{LIB}", "MYPY_CACHE_DIR": f"{scratch}/cache",
        "PYFLAKES_BUILTINS": ",".join(prelude.__all__),
    }
    return subprocess.run(command, env=environment, check=False).returncode == 0
