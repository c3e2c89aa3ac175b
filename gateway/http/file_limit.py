"""Open files: each connection is one, and most systems give a process 1,024 of them until it asks for more.

Above: app.py, before it listens. Not here: what happens to a connection too many (protocol.py).
"""

import resource
from contextlib import suppress

import structlog

from shared.model.bounds import SPARE_FILES

log = structlog.get_logger()


def room_for(connections: int) -> int:
    """How many connections this process may have: that many, if the system lets it open so many files, else fewer."""
    most = _allow(connections + SPARE_FILES) - SPARE_FILES
    if most >= connections:
        return connections
    log.warning("gateway.few_files", wanted=connections, connections=max(most, 1))
    return max(most, 1)


def _allow(files: int) -> int:
    """Raise this process's limit to so many open files, as far as it may; the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return files
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    with suppress(ValueError, OSError):  # macOS allows fewer than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
