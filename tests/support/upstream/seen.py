"""A request, as the upstream saw it. Pure."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Seen:
    """One request, as the upstream saw it. Times are `time.monotonic()`, which all processes share."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    started: float
    begun: int = 0
    """Tokens that the request gave as the beginning of its answer."""
    tokens: int = 0
    """Deltas that were written to an open socket."""
    sent: int = 0
    """Chunks that were written."""
    held_up: bool = False
    """It had to wait for a reader that did not read."""
    silent: bool = False
    """It has sent all its chunks, and does not end."""
    ended: float | None = None
    """When the answer, or the client's interest in it, ended."""
    closed: bool = False
    """The client closed its socket before the answer had ended."""

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of `/observations`."""
        asked = {name: self.body.get(name) for name in ("model", "messages", "input")}
        shown = {"path": self.path, **asked, "begun": self.begun, "tokens": self.tokens, "sent": self.sent}
        return {**shown, "started": self.started, "ended": self.ended, "closed": self.closed}
