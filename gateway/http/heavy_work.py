"""Run work on large requests in a thread beside the event loop: streams continue meanwhile.

A megabyte of JSON may be hundreds of thousands of values, which take Python tenths of a second to check. The
interpreter's lock changes hands every `SWITCH_S`, so that the loop waits no longer than that. Only a single call of C
holds it longer: decoding a megabyte takes 35 ms at most. One thread does this work for all requests, in turn: several
would take turns with the loop, and hold several requests at once. Not here: the work that a request needs.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from shared.model.bounds import INLINE_BYTES

SWITCH_S: Final = 0.0005
"""How soon the thread releases the interpreter's lock. A request needs it some ten times, so Python's 5 ms add up."""

P = ParamSpec("P")
T = TypeVar("T")


class HeavyWork:
    """Run heavy work in one gateway's thread."""

    def __init__(self) -> None:
        self._turn = CapacityLimiter(1)

    async def run(self, size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on data of this size in bytes; small work is done at once."""
        if size <= INLINE_BYTES:
            return work(*args, **named)
        return await to_thread.run_sync(partial(work, *args, **named), limiter=self._turn)


class RequestWork:
    """Run the work on one request. `size` counts the bytes of its body, and those that were read for it since."""

    def __init__(self, heavy: HeavyWork, size: int) -> None:
        self.size = size
        self._heavy = heavy

    @classmethod
    def of(cls, heavy: HeavyWork, request: Request) -> "RequestWork":
        """Return the work on a request after its body was read."""
        return cls(heavy, body_size(request))

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on the request's data."""
        return await self._heavy.run(self.size, work, *args, **named)


def note_body_size(request: Request, size: int) -> None:
    """Remember the size of a request's body."""
    request.state.body_bytes = size


def body_size(request: Request) -> int:
    """Return the size of a request's body; 0 if it was not read."""
    return int(getattr(request.state, "body_bytes", 0))
