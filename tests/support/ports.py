"""Reserve ports for the servers of tests, so that no two test processes use one port.

Not here: ports of servers that the product starts itself (shared/process/ports.py); theirs are of another range.
"""

import fcntl
import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shared.process.ports import port_taken

HERE = "127.0.0.1"
# Below the product's own range, and below the kernel's for outgoing connections.
_RESERVABLE = range(10_000, 20_000)


def reserve_port() -> int:
    """Return a port without a listener that no other test process is given while this one lives.

    A server may take a second to listen, and stops listening while it restarts. A port that was only found free could
    be found free by another process meanwhile.
    """
    return next(_reserved())


@cache
def _reserved() -> Iterator[int]:
    """Yield each port once; a lock on one byte of a file marks it as reserved until this process ends (fcntl(2))."""

    def reserved() -> Iterator[int]:
        with (Path(tempfile.gettempdir()) / "tailrace-test-ports").open("ab") as locks:
            for port in random.sample(_RESERVABLE, len(_RESERVABLE)):
                try:
                    fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                except OSError:
                    continue
                if not port_taken(HERE, port):
                    yield port

    return reserved()
