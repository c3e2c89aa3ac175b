"""A coroutine with timed steps: one that holds up the event loop for too long is reported.

A step is the code between two points at which the coroutine waits. It is reported when it ends.
Not here: the bound and the report (own_function.py).
"""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T", covariant=True)


class TimedSteps(Coroutine[Any, Any, T]):
    """Run a coroutine, and call `on_long` with the seconds of each step that took `bound_s` or longer."""

    def __init__(
        self,
        steps: Coroutine[Any, Any, T],
        clock: Callable[[], float],
        bound_s: float,
        on_long: Callable[[float], None],
    ) -> None:
        self._steps = steps
        self._clock = clock
        self._bound_s = bound_s
        self._on_long = on_long

    def __await__(self) -> Any:
        """Refuse to be awaited: only a task can time the steps."""
        raise TypeError("TimedSteps runs as a task of its own.")

    def send(self, value: Any) -> Any:
        """Run the next step."""
        began_at = self._clock()
        try:
            return self._steps.send(value)
        finally:
            self._check(began_at)

    def throw(self, kind: Any, error: Any = None, trace: TracebackType | None = None) -> Any:
        """Run the next step with an error, such as a cancellation."""
        began_at = self._clock()
        try:
            return self._steps.throw(kind if error is None else error)
        finally:
            self._check(began_at)

    def close(self) -> None:
        """Close the coroutine."""
        self._steps.close()

    def _check(self, began_at: float) -> None:
        took_s = self._clock() - began_at
        if took_s >= self._bound_s:
            self._on_long(took_s)
