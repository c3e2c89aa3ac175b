"""The bounds of one tenant on the resources that all tenants share, and the shares that are the defaults.

Pure. Not here: enforcing a bound (shared/store/functions, gateway/streams/open_streams.py), and the settings' names.
"""

from dataclasses import dataclass, replace
from typing import Final

from shared.model.bounds import DEAD_LETTERS, MEMORY_RESERVE, TENANT_SHARE
from shared.model.errors import StartupError


@dataclass(frozen=True, slots=True)
class TenantBounds:
    """Jobs that wait or run, streams at one gateway and bytes in Redis, None: no bound; and dead letters.

    `running_percent` is a share of all workers' slots, and `bytes_percent` one of the memory of the jobs' server. They
    count if no number is set.
    """

    waiting: int | None = None
    running: int | None = None
    running_percent: int | None = None
    dead_letters: int = DEAD_LETTERS
    streams: int | None = None
    bytes: int | None = None
    bytes_percent: int | None = None

    def in_memory(self, total: int) -> "TenantBounds":
        """Return the bounds on a jobs' server that has so many bytes of memory.

        Raises:
            StartupError: the bound on bytes is larger than that.
        """
        if self.bytes is not None and self.bytes > total:
            raise StartupError(
                f"TAILRACE_MAX_BYTES_PER_TENANT is {self.bytes}, and must be at most the memory of the jobs' Redis, "
                f"which is {total}."
            )
        if self.bytes is None and self.bytes_percent is not None:
            return replace(self, bytes=max(total * self.bytes_percent // 100, 1))
        return self

    @property
    def bytes_of_new(self) -> int | None:
        """Return up to how many bytes new jobs may fill the tenant's share: the rest is left to those that run."""
        return None if self.bytes is None else self.bytes - self.bytes // MEMORY_RESERVE

    @property
    def running_term(self) -> str:
        """Return the bound on running jobs for the functions' ledger: a number, a percentage, or nothing."""
        if self.running is not None:
            return str(self.running)
        return "" if self.running_percent is None else f"{self.running_percent}%"


UNBOUNDED: Final = TenantBounds()
"""No bound at all."""


def half_of(total: int) -> int:
    """Compute one tenant's share of a total, at least 1."""
    return max(total // TENANT_SHARE, 1)
