"""The shell in the guest: the driver's side of image/guest/vm-shell."""

import secrets
import socket
import time
from dataclasses import dataclass

# How much longer than a command may take its answer may take: for a guest that hangs.
GRACE_SECONDS = 120
READY = b"ready\n"


@dataclass
class Result:
    """What a command came to. Status 124 means that it took too long."""

    status: int
    output: str
    errors: str


class Shell:
    """One connection. Commands are carried out one after the other."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._unread = b""
        # Of commands whose answer nobody waited for.
        self._unanswered: list[bytes] = []

    def wait_for_boot(self, seconds: float) -> None:
        """Waits for the shell of a machine that boots; what an earlier one still said is dropped."""
        self._unanswered.clear()
        self._receive_until(READY, time.monotonic() + seconds)

    def run(self, command: str, seconds: int | None) -> Result:
        """Runs bash code with `set -euo pipefail`."""
        nonce = self._send(command, seconds)
        # Without a limit of its own a command has that of the whole scenario.
        deadline = None if seconds is None else time.monotonic() + seconds + GRACE_SECONDS
        while self._unanswered:
            self._receive_answer(self._unanswered.pop(0), deadline)
        return self._receive_answer(nonce, deadline)

    def begin(self, command: str, seconds: int | None) -> None:
        """Has a command run whose answer nobody waits for; the machine may be gone before it comes."""
        self._unanswered.append(self._send(command, seconds))

    def _send(self, command: str, seconds: int | None) -> bytes:
        nonce, code = secrets.token_hex(16).encode(), command.encode()
        self._connection.settimeout(GRACE_SECONDS)
        # timeout(1) takes 0 for none.
        self._connection.sendall(b"%s %d %d\n%s" % (nonce, seconds or 0, len(code), code))
        return nonce

    def _receive_answer(self, nonce: bytes, deadline: float | None) -> Result:
        output = self._receive_until(nonce, deadline)
        errors = self._receive_until(nonce, deadline)
        status = int(self._receive_until(b"\n", deadline))
        return Result(status, output.decode(errors="replace"), errors.decode(errors="replace"))

    def _receive_until(self, mark: bytes, deadline: float | None) -> bytes:
        searched = 0
        while (found := self._unread.find(mark, searched)) < 0:
            searched = max(0, len(self._unread) - len(mark))
            self._connection.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
            try:
                received = self._connection.recv(1 << 18)
            except TimeoutError:
                raise TimeoutError("the guest does not answer") from None
            if not received:
                raise ConnectionError("the guest is gone")
            self._unread += received
        before, self._unread = self._unread[:found], self._unread[found + len(mark):]
        return before
