"""Do the work on large requests beside the event loop: streams, and other tenants' requests, continue meanwhile.

A megabyte of JSON may be hundreds of thousands of values. To decode it holds the interpreter for up to 35 ms, in
whatever thread. So a process of its own does it, for one request at a time, by turns of the tenants. A thread does the
work on data that this process already holds, and gives the interpreter back every `SWITCH_S`. Not here: the work that
a request needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from gateway.http.fair_turns import FairTurns
from gateway.http.protocol import HALF_CLOSED
from shared.model.bounds import INLINE_BYTES, LARGE_WAITING
from shared.model.errors import TooManyLargeRequests
from shared.model.metrics import Metrics
from shared.process.call_process import CallProcess

SWITCH_S: Final = 0.0005
"""How soon a thread releases the interpreter's lock. A request needs it some ten times, so Python's 5 ms add up."""

# The modules whose functions are called there: named only, since they are in layers above this one.
_MODULES: Final = ("gateway.preparation.completion", "gateway.preparation.response", "gateway.preparation.ui_chat")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Requester:
    """Name the tenant that sent a request; `request` is watched for the departure of its client."""

    tenant: str
    request: Request

    async def left(self) -> bool:
        """Return whether the client has left. One that only sends nothing more is still there."""
        return not self.request.scope.get(HALF_CLOSED) and await self.request.is_disconnected()


class HeavyWork:
    """Do the heavy work of one gateway."""

    def __init__(self, metrics: Metrics | None = None, most_waiting: int = LARGE_WAITING) -> None:
        """Let `most_waiting` large requests of each tenant wait."""
        self._refused = (metrics or Metrics()).refused.of("large_requests")
        self._turns = FairTurns(most_waiting)
        self._process = CallProcess(*_MODULES)
        self._thread = CapacityLimiter(1)

    @property
    def pid(self) -> int | None:
        """Return the id of the process for large requests; it starts with the first of them."""
        return self._process.pid

    @property
    def waiting(self) -> int:
        """Return how many large requests wait for this process."""
        return self._turns.waiting

    async def run(self, by: Requester, size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on data of this size in bytes; small work is done at once.

        The function, its arguments and its result are pickled. They should be bytes for the most part: to pickle many
        values takes this process as long as to decode them.

        Raises:
            TooManyLargeRequests: too many requests of this tenant wait.
            Unavailable: the process died.
            starlette.requests.ClientDisconnect: the client left before the work's turn came.
        """
        if size <= INLINE_BYTES:
            return work(*args, **named)
        try:
            async with self._turns.turn(by.tenant):
                if await by.left():
                    raise ClientDisconnect
                return await self._process.call(work, *args, **named)
        except TooManyLargeRequests:
            self._refused.add()
            raise

    async def run_here(self, size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on data that this process holds in a thread of it; small work is done at once."""
        if size <= INLINE_BYTES:
            return work(*args, **named)
        return await to_thread.run_sync(partial(work, *args, **named), limiter=self._thread)

    async def close(self) -> None:
        """End the process."""
        await self._process.close()


class RequestWork:
    """Do the work on one request. `size` counts the bytes of its body, and those read for it since."""

    def __init__(self, heavy: HeavyWork, by: Requester, size: int) -> None:
        self.size = size
        self._by = by
        self._heavy = heavy

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on the request's bytes, see `HeavyWork.run`."""
        return await self._heavy.run(self._by, self.size, work, *args, **named)

    async def run_here(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a pure function on the request's decoded values, see `HeavyWork.run_here`."""
        return await self._heavy.run_here(self.size, work, *args, **named)
