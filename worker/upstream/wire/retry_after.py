"""The pause that an upstream asks for in the headers of an answer.

Pure. Not here: the decision after a refusal (worker/model/retry.py).
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MOST_S: Final = 3600.0
"""The longest pause that is believed. A client that obeys a longer one would not notice that the trouble has passed."""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read the pause in seconds, from `retry-after-ms` (OpenAI) or `Retry-After` (RFC 9110 §10.2.3)."""
    seconds = _asked_s(headers)
    return None if seconds is None or not seconds >= 0 else min(seconds, RETRY_AFTER_MOST_S)


def _asked_s(headers: Mapping[str, str]) -> float | None:
    after = headers.get("retry-after", "")
    for text, unit in ((headers.get("retry-after-ms", ""), 0.001), (after, 1.0)):
        try:
            return float(text) * unit
        except ValueError:
            continue
    try:  # a date, by the same clock as `Date`
        wait = parsedate_to_datetime(after) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, wait.total_seconds())
