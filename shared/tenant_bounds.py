"""What one tenant may hold of what all tenants share, and the shares that are the defaults.

Pure. Not here: who enforces a bound (shared/functions/ledger.lua and dead_letters.lua), or the settings' names.
"""

from dataclasses import dataclass
from typing import Final

from shared.bounds import DEAD_LETTERS, TENANT_SHARE


@dataclass(frozen=True, slots=True)
class TenantBounds:
    """Jobs that wait and jobs that run, None: no bound; and dead letters."""

    waiting: int | None = None
    running: int | None = None
    dead_letters: int = DEAD_LETTERS


UNBOUNDED: Final = TenantBounds()
"""No bound at all."""


def half_of(total: int) -> int:
    """Compute one tenant's share of a total, at least 1."""
    return max(total // TENANT_SHARE, 1)
