# Declares the globals of a scenario; mypy reads it before the text of each.
import os
import unittest
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from driver.machine import Machine


class Retry(Protocol):
    def __call__(self, fn: Callable[[bool], bool], timeout: int = 900) -> None: ...


class Log(Protocol):
    def log(self, msg: str) -> None: ...

    def nested(self, msg: str) -> AbstractContextManager[None]: ...


machine: Machine
machines: list[Machine]
start_all: Callable[[], None]
join_all: Callable[[], None]
subtest: Callable[[str], AbstractContextManager[None]]
retry: Retry
log: Log
t: unittest.TestCase
__all__ = ["Machine", "join_all", "log", "machine", "machines", "os", "retry", "start_all", "subtest", "t"]
