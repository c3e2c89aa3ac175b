"""The behaviour of an upstream to all its callers. Pure.

Not here: the script that one request carries (script.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.model.routes import Continuation
from tests.support.upstream.script import WireScript

PlannedFault = Callable[[str, WireScript, int], tuple[str, WireScript] | None]
"""Given a question, the script of its answer and the tokens left: the fault of now and its script, or None."""


@dataclass(frozen=True)
class Manner:
    """The behaviour of an upstream to all its callers, beside their scripts."""

    continuation: Continuation = Continuation.NONE
    """The way in which callers must request the rest of an answer."""
    planned_fault: PlannedFault = lambda question, script, left: None
    ahead: int | None = None
    """It stops while a caller has so many bytes that it has not read (Linux); None: never."""
