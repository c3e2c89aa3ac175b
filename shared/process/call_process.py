"""Call pure functions in a child process, so that their work does not hold this process's interpreter.

The child starts with the first call, and again after it died. It knows no secret: its environment is empty. It ends
with this process (child.py). A standard pool of processes does not: its children survive a SIGKILL of their parent.
Not here: which calls are made in which order, and the child's side (call_server.py).
"""

import os
import pickle
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Final, ParamSpec, TypeVar, cast

import structlog
from anyio import CapacityLimiter, to_thread

from shared.model.errors import TailraceError, Unavailable
from shared.process.child import signal_child, start_child

log = structlog.get_logger()

ANSWER_S: Final = 60.0
"""How long a call may take. The largest body takes a fraction of a second."""
_TRIES: Final = 2
_NO_ANSWER = (EOFError, OSError)

P = ParamSpec("P")
T = TypeVar("T")


class CallProcess:
    """Call functions in one child process. Its user makes one call at a time."""

    def __init__(self, *modules: str) -> None:
        """Load these modules when the child starts, so that its first call finds their functions ready."""
        self._modules = modules
        self._process: Process | None = None
        self._connection: Connection | None = None
        self._thread = CapacityLimiter(1)
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Return the child's process id, once started."""
        return self._process.pid if self._process else None

    async def call(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a function by its importable name; arguments and result are pickled.

        A call that finds the child dead, or during which it dies, is made again, once.

        Raises:
            Unavailable: the child died both times, or is closed.
            TailraceError: the function raised it.
        """
        call = pickle.dumps(partial(work, *args, **named), pickle.HIGHEST_PROTOCOL)
        for _ in range(_TRIES):
            if self._closed:
                break
            connection = self._connection or await self._start()
            try:
                raw = await to_thread.run_sync(_exchange, connection, call, limiter=self._thread)
            except _NO_ANSWER as error:
                await self._end()
                log.warning("call_process.died", error=type(error).__name__)
                continue
            answer = pickle.loads(raw)  # noqa: S301  # it comes from the child process
            if isinstance(answer, TailraceError):
                raise answer
            return cast(T, answer)
        raise Unavailable("The gateway could not read this request just now; try again.")

    async def close(self) -> None:
        """End the child; a call that waits for it fails."""
        self._closed = True
        await self._end()

    async def _start(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            self._process = await start_child(
                [sys.executable, "-P", "-m", "shared.process.call_server", str(theirs.fileno()), *self._modules],
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=(theirs.fileno(),),
            )
        self._connection = ours
        return ours

    async def _end(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            signal_child(process, signal.SIGKILL)
            await process.wait()
        if connection is not None:
            connection.close()


def _exchange(connection: Connection, call: bytes) -> bytes:
    connection.send_bytes(call)
    if not connection.poll(ANSWER_S):
        raise TimeoutError("The child has not answered.")
    return connection.recv_bytes()
