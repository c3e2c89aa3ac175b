"""Define a dialect's call as admission reads it: the request for the provider, and the properties of its job.

API modules build it. Not here: whether it may enter (gateway/admission/admission.py), and the native job API, with all
of it in the body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.specs.request_options import RequestOptions
from shared.model.jobs import OnDisconnect
from shared.model.kinds import CHAT


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Describe one call, by default of a caller that waits for its job.

    `route` and the `body`, as the caller sent it, make the fingerprint of an Idempotency-Key. `request` is the chat or
    embedding request of that body.
    """

    route: str
    request: Mapping[str, Any]
    body: Mapping[str, Any]
    options: RequestOptions
    key: str | None = None
    """The Idempotency-Key."""
    kind: str = CHAT
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    """The policy if the options name none."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    watched: bool = True
    """Whether the caller views the job from its start."""
    streaming: bool = False
    kept: Mapping[str, Any] | None = None
    """The fields that the answer repeats."""
    continued: bool = False
    """Whether a later request may continue it, although it got no answer; a call with `kept` fields always may be."""
