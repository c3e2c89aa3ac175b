"""What one tenant may hold of what all tenants share, and the shares that are the defaults.

Pure. Not here: who enforces a bound (shared/functions, gateway/open_streams.py), or the settings' names.
"""

from dataclasses import dataclass
from typing import Final

from shared.bounds import DEAD_LETTERS, TENANT_SHARE


@dataclass(frozen=True, slots=True)
class TenantBounds:
    """Jobs that wait, jobs that run and streams that are open at one gateway, None: no bound; and dead letters.

    `running_percent` is a share of all workers' slots, and counts if no number is set.
    """

    waiting: int | None = None
    running: int | None = None
    running_percent: int | None = None
    dead_letters: int = DEAD_LETTERS
    streams: int | None = None

    @property
    def running_term(self) -> str:
        """Return the bound on running jobs as ledger.lua reads it: a number, a percentage, or nothing."""
        if self.running is not None:
            return str(self.running)
        return "" if self.running_percent is None else f"{self.running_percent}%"


UNBOUNDED: Final = TenantBounds()
"""No bound at all."""


def half_of(total: int) -> int:
    """Compute one tenant's share of a total, at least 1."""
    return max(total // TENANT_SHARE, 1)
