"""Raise the limit of open files: each connection is one, and most systems allow a process 1,024 by default.

Not here: connections over the limit (protocol.py).
"""

import resource
from contextlib import suppress

import structlog

from shared.model.bounds import SPARE_FILES

log = structlog.get_logger()


def room_for(connections: int) -> int:
    """Return the number of connections that this process may have: `connections`, or fewer by the limit of files."""
    most = _allow(connections + SPARE_FILES) - SPARE_FILES
    if most >= connections:
        return connections
    log.warning("gateway.few_files", wanted=connections, connections=max(most, 1))
    return max(most, 1)


def _allow(files: int) -> int:
    """Raise this process's limit of open files to `files`, as far as allowed; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return files
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    with suppress(ValueError, OSError):  # macOS allows fewer than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
