"""Functions that a test calls in a child process: few imports, so that the child starts fast.

Not here: the tests (test_call_process.py).
"""

import os
import signal
from pathlib import Path
from typing import NoReturn


def die() -> NoReturn:
    """End this process as a crash does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("This process is dead.")


def die_once(mark: Path) -> str:
    """End this process unless it has been done before."""
    if not mark.exists():
        mark.touch()
        die()
    return "alive"


def environment() -> list[str]:
    """Return the names of this process's environment."""
    return sorted(os.environ)


def priority() -> int:
    """Return how nice this process is."""
    return os.getpriority(os.PRIO_PROCESS, 0)
