"""Read Tailrace's options from headers, for dialects with foreign bodies.

Pure. Not here: the validation of their values (validation.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

LANE_HEADER = "X-Tailrace-Lane"
STREAM_FAILURE_HEADER = "X-Tailrace-On-Stream-Failure"
DISCONNECT_HEADER = "X-Tailrace-On-Disconnect"
ABANDON_HEADER = "X-Tailrace-Abandon-After"
_HEADERS = (LANE_HEADER, STREAM_FAILURE_HEADER, DISCONNECT_HEADER, ABANDON_HEADER)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Hold the values of these headers; None for an absent header."""

    lane: str | None = None
    on_stream_failure: str | None = None
    on_disconnect: str | None = None
    abandon_after: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "RequestOptions":
        """Read the options from a request's headers."""
        return cls(*map(headers.get, _HEADERS))

    def named(self) -> dict[str, str]:
        """Return the options that are present, by their headers."""
        values = (self.lane, self.on_stream_failure, self.on_disconnect, self.abandon_after)
        return {name: value for name, value in zip(_HEADERS, values, strict=True) if value is not None}
