"""Supervise parts: start them in order, restart the ones that die, stop all of them in reverse order.

A part is anything that can start, die and stop; `Program` is one of Tailrace's own programs. Not here: the parts of
`tailrace up` (cli.py).
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from io import FileIO
from types import TracebackType
from typing import Protocol, Self

import structlog

from shared.model.bounds import OUTPUT_BYTES, TAIL_BYTES
from shared.model.errors import StartupError
from shared.process.child import signal_child, start_child, stop_child
from shared.process.clock import Clock
from shared.process.ready import READY_LINE

log = structlog.get_logger()

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
STABLE_S = 30.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_WORDS_S = 1.0


class Part(Protocol):
    """Define a part that the supervisor guards."""

    @property
    def name(self) -> str:
        """Return its name in logs and errors."""
        ...

    async def start(self) -> object:
        """Return when it is ready; if it fails, leave nothing behind and raise StartupError. May be repeated."""
        ...

    async def died(self) -> int:
        """Wait for its end. Returns its exit status."""
        ...

    async def stop(self) -> None:
        """End it, in bounded time. Stopping a part that does not run is allowed."""
        ...

    def kill(self) -> None:
        """End it at once; a `stop` that is waiting then returns."""
        ...


def restart_delay(previous_s: float, lived_s: float) -> float:
    """Return the delay before a dead part is started again, in seconds.

    `previous_s` is the delay before its last start, 0 at first; one that lived for `STABLE_S` starts over.
    """
    if previous_s == 0 or lived_s >= STABLE_S:
        return FIRST_DELAY_S
    return min(2 * previous_s, LONGEST_DELAY_S)


class Supervisor:
    """Guard parts for as long as its `async with` block lasts.

    The first SIGINT, SIGTERM or SIGHUP ends the block, the second one all parts at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: list[Sequence[Part]] = []
        self._guards: list[asyncio.Task[None]] = []
        self._block: asyncio.Task[object] | None = None
        self._signalled = False
        # A signal that is ignored, as under nohup, must stay ignored.
        self._signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    async def __aenter__(self) -> Self:
        self._block = asyncio.current_task()
        for number in self._signals:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # Regardless of the reason for the block's end, a signal from now on ends all parts at once.
        was_signalled, self._signalled = self._signalled, True
        for guard in self._guards:
            guard.cancel()
        await asyncio.gather(*self._guards, return_exceptions=True)
        for group in reversed(self._groups):
            await asyncio.gather(*(part.stop() for part in group))
            log.debug("parts.stopped", parts=[part.name for part in group])
        for number in self._signals:
            asyncio.get_running_loop().remove_signal_handler(number)
        by_signal = was_signalled and kind is asyncio.CancelledError
        if by_signal and self._block is not None:
            self._block.uncancel()
        return by_signal

    async def start(self, *parts: Part) -> None:
        """Start parts side by side, and guard them once all are ready. They will be stopped side by side too.

        Raises:
            StartupError: one of them could not start; then none of them runs.
        """
        self._groups.append(parts)
        results = await asyncio.gather(*(part.start() for part in parts), return_exceptions=True)
        for failure in results:
            if isinstance(failure, BaseException):
                await asyncio.gather(*(part.stop() for part in parts))
                raise failure
        self._guards += [asyncio.create_task(self._guard(part)) for part in parts]

    async def watch(self) -> None:
        """Wait for as long as the parts are guarded: until a signal ends the block."""
        await asyncio.gather(*self._guards)

    async def _guard(self, part: Part) -> None:
        delay_s = 0.0
        while True:
            began = self._clock.monotonic()
            status = await part.died()
            delay_s = restart_delay(delay_s, self._clock.monotonic() - began)
            log.warning("part.died", part=part.name, status=status, restart_in_s=delay_s)
            delay_s = await self._restart(part, delay_s)

    async def _restart(self, part: Part, delay_s: float) -> float:
        """Start a part repeatedly until it runs again. Returns the last delay."""
        while True:
            await asyncio.sleep(delay_s)
            try:
                await part.start()
            except StartupError as error:
                delay_s = restart_delay(delay_s, 0)
                log.error("part.not_restarted", part=part.name, why=str(error), again_in_s=delay_s)
            else:
                log.info("part.restarted", part=part.name)
                return delay_s

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signalled:
            log.warning("parts.killed", signal=number.name)
            for group in reversed(self._groups):
                for part in group:
                    part.kill()
            return
        self._signalled = True
        log.info("parts.stopping", signal=number.name)
        if self._block is not None:
            self._block.cancel()


class Program:
    """Run one of Tailrace's programs in a process of its own, which reports on `--ready-fd` when it is ready.

    Once it is ready, its output goes to this process's stderr; if it can't start, the error quotes the output's end.
    """

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], *, start_s: float, stop_s: float
    ) -> None:
        self._name = name
        self._argv = argv
        self._env = env
        self._start_s = start_s
        self._stop_s = stop_s
        self._process: Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._unseen: bytes | None = b""

    @property
    def name(self) -> str:
        """Return its name in logs and errors."""
        return self._name

    async def start(self) -> None:
        """Start it with this process's environment and `env`, and wait for its line.

        Raises:
            StartupError: it ended, or stayed silent for `start_s` seconds; the sentence quotes its last output.
        """
        try:
            process, ready_pipe = await self._spawn()
        except OSError as error:
            raise StartupError(f"The {self._name} can't be started: {error}.") from error
        with ready_pipe:
            try:
                async with asyncio.timeout(self._start_s):
                    ready = await _read_soon(ready_pipe) == READY_LINE
                why = "did not start"
            except TimeoutError:
                ready = False
                why = f"was not ready within {self._start_s:g} s"
            except BaseException:
                await self.stop()
                raise
        if not ready:
            await self.stop()
            said = (self._unseen or b"it said nothing.").decode(errors="replace").strip()
            raise StartupError(f"The {self._name} {why} (exit status {process.returncode}): {said}")
        self._show(self._unseen or b"")
        self._unseen = None

    async def died(self) -> int:
        """Wait for its end. Returns its exit status, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"The {self._name} has not been started.")
        return await self._process.wait()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after `stop_s` seconds."""
        if self._process is not None:
            await stop_child(self._process, self._stop_s)
            self._process = None
        if self._output is not None:
            await asyncio.wait([self._output], timeout=_LAST_WORDS_S)
            self._output.cancel()
            self._output = None

    def kill(self) -> None:
        """Send SIGKILL at once."""
        if self._process is not None:
            signal_child(self._process, signal.SIGKILL)

    async def _spawn(self) -> tuple[Process, FileIO]:
        readable, writable = os.pipe()
        ready_pipe = FileIO(readable)
        try:
            process = await start_child(
                [*self._argv, "--ready-fd", str(writable)],
                env={**os.environ, **self._env},
                output=PIPE,
                pass_fds=(writable,),
            )
        except BaseException:
            ready_pipe.close()
            raise
        finally:
            os.close(writable)
        self._process = process
        self._unseen = b""
        self._output = asyncio.create_task(self._forward(process))
        return process, ready_pipe

    async def _forward(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101  # requested above
        while chunk := await process.stdout.read(OUTPUT_BYTES):
            if self._unseen is None:
                self._show(chunk)
            else:
                self._unseen = (self._unseen + chunk)[-TAIL_BYTES:]

    def _show(self, said: bytes) -> None:
        # stderr may have no reader; a part must be able to write nevertheless.
        with contextlib.suppress(OSError):
            sys.stderr.buffer.write(said)
            sys.stderr.buffer.flush()


async def _read_soon(pipe: FileIO) -> bytes | None:
    """Read from a pipe as soon as it has bytes; empty if its other end was closed."""
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pipe)
    return pipe.read(len(READY_LINE))
