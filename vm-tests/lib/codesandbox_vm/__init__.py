"""What scenarios import: the same on NixOS and on Debian, where different drivers run them."""

from .client import Answer, bash, begin_jobs, end_jobs, health, python, run_jobs
from .configuration import add_language, configuration, configure, write
from .guest import Machine, Skip, payload, place, program
from .leftovers import finish, leftovers
from .pool import bound, have_none_wait, waiting
from .sessions import UNIT, Session, ask, session_groups

__all__ = [
    "Answer", "Machine", "Session", "Skip", "UNIT", "add_language", "ask", "bash", "begin_jobs", "bound", "configuration",
    "configure", "end_jobs", "finish", "have_none_wait", "health", "leftovers", "payload", "place", "program", "python",
    "run_jobs", "session_groups", "waiting", "write",
]
