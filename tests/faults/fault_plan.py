"""The upstream's own errors, and the calls that get them: seeded, each kind as often as any other. Pure.

No error is a refusal for good: a repeated request may get the answer. That is why no question is answered with garbage
twice, which a worker takes for how a provider answers.
"""

import random
from typing import Any

from tests.support.upstream import Answer, WireScript

SHARE = 0.1
"""Of the calls, so many go wrong."""

_ERROR = {"message": "The scripted upstream has a bad moment.", "type": "server_error", "code": "server_error"}


def _answered(status: int, **headers: str) -> dict[str, Any]:
    return {"http": Answer(status=status, headers=headers, body={"error": {**_ERROR, "type": None, "code": None}})}


_KINDS: dict[str, dict[str, Any]] = {
    "429": _answered(429, **{"Retry-After": "1"}),
    "500": _answered(500),
    "503": _answered(503),
    "hang": {"fault": "hang"},
    # The others come in mid-stream.
    "stall": {"fault": "stall"},
    "keepalives": {"fault": "keepalives"},
    "reset": {"fault": "reset"},
    "cut": {"fault": "cut"},
    "truncation": {"fault": "truncate"},
    "error": {"fault": "error", "error": _ERROR},
    "garbage": {"fault": "bad_json"},
    # Its answer is whole.
    "no [DONE]": {"fault": "no_done"},
}
KINDS = tuple(_KINDS)
_ONCE = "garbage"


class FaultPlan:
    """The planned faults of one run; the same seed, the same faults."""

    def __init__(self, seed: int, share: float = SHARE) -> None:
        self._chance = random.Random(f"{seed}/upstream")
        self._share = share
        self._round: list[str] = []
        self._had_garbage: set[str] = set()

    def next(self, question: str, script: WireScript, left: int) -> tuple[str, WireScript] | None:
        """Return the planned fault of the next call, which has `left` tokens to say: its kind, and the script of it."""
        if self._chance.random() >= self._share:
            return None
        kind = self._kind(question)
        return kind, script.model_copy(update={**_KINDS[kind], "after": self._chance.randrange(left)})

    def _kind(self, question: str) -> str:
        excluded = {_ONCE} if question in self._had_garbage else set()
        if not set(self._round) - excluded:
            self._round = self._chance.sample(KINDS, len(KINDS)) + self._round
        kind = next(kind for kind in reversed(self._round) if kind not in excluded)
        self._round.remove(kind)
        if kind == _ONCE:
            self._had_garbage.add(question)
        return kind
