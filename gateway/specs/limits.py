"""Define the limits that admission enforces, from the settings (gateway/app.py).

Pure. Not here: their enforcement (spec_maker.py, gateway/admission/intake.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.model.webhooks.target import PUBLIC_ONLY, AllowedTargets


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold the limits that admission enforces."""

    timeout_s: float
    max_timeout_s: float
    retention_s: float
    unstored_s: float
    listed_s: float
    max_depth: int
    grace_s: float
    models: Sequence[str]
    lanes: Sequence[str]
    bounds: TenantBounds = UNBOUNDED
    webhook_targets: AllowedTargets = PUBLIC_ONLY
