"""Lower the priority of a process that has a session of its own (child.py gives each child one)."""

import contextlib
import os
from pathlib import Path
from typing import Final

_AUTOGROUP: Final = Path("/proc/self/autogroup")


def lower_priority(nice: int) -> None:
    """Be so much nicer than before.

    Linux may share processors between sessions first, so that niceness counts inside a session only (sched(7), "The
    autogroup feature"). So the session becomes nicer too.
    """
    os.nice(nice)
    # Absent if sessions are not groups.
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(nice))
