"""Move results of tools in a chat directly behind the message that has called the tool. Pure.

Upstreams refuse anything else. Responses' items come in any order, and a user may speak before a tool has ended.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]


class _OpenCalls:
    """Track calls without a result, by their ids. An id may occur in several turns of a conversation."""

    def __init__(self) -> None:
        self._turns: dict[str, list[tuple[int, deque[int]]]] = defaultdict(list)
        self._answered: dict[str, tuple[int, int]] = {}

    def add(self, call_id: str, message: int, number: int) -> None:
        """Note the call of this number in the message at this position."""
        turns = self._turns[call_id]
        if not turns or turns[-1][0] != message:
            turns.append((message, deque()))
        turns[-1][1].append(number)

    def answer(self, call_id: object) -> tuple[int, int] | None:
        """Find the latest call that a result belongs to: its message's position and its number there."""
        if not isinstance(call_id, str):
            return None
        if not (turns := self._turns.get(call_id)):
            return self._answered.get(call_id)
        message, numbers = turns[-1]
        found = message, numbers.popleft()
        if not numbers:
            turns.pop()
        self._answered[call_id] = found
        return found


def results_behind_calls(messages: Sequence[Message]) -> list[Message]:
    """Move each result behind the message that has made its call, in the order of the calls.

    Messages in between follow the results. A result without an earlier call stays at its place, as does a call without
    a result: the upstream decides whether that is acceptable.
    """
    calls = _OpenCalls()
    results: dict[int, list[tuple[int, int]]] = defaultdict(list)
    moved: set[int] = set()
    for at, message in enumerate(messages):
        if message.get("role") == "assistant":
            for number, call in enumerate(message.get("tool_calls") or ()):
                if isinstance(call, dict) and isinstance(call.get("id"), str):
                    calls.add(call["id"], at, number)
        elif message.get("role") == "tool" and (found := calls.answer(message.get("tool_call_id"))) is not None:
            results[found[0]].append((found[1], at))
            moved.add(at)
    ordered: list[Message] = []
    for at, message in enumerate(messages):
        if at not in moved:
            ordered += [message, *(messages[result] for _, result in sorted(results.get(at, ())))]
    return ordered
