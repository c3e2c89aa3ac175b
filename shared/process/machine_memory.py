"""Read the memory that this machine, or the container in it, has for its processes."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def machine_memory(limit: Path = _CGROUP) -> int:
    """Read the machine's memory in bytes, or the container's if that is less (cgroup v2)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(limit.read_text()))
    except (OSError, ValueError):  # no container, or `max`
        return total
