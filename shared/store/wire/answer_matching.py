"""Match the answers of one connection with the commands that were written on it.

A server answers in order, so the n-th answer belongs to the n-th command. One answer too many or too few would shift
all later ones. Therefore each write ends in an ECHO of a token of its own, and its answers are released when the
token has arrived in its place. Pure. Not here: the connection, and its time-outs (shared/store/multiplexed.py).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import hiredis

Waiter = TypeVar("Waiter")
Settled = tuple[Waiter, Any]
"""A waiter, and its answer; an error answer is an exception, which is returned and not raised."""

_INCOMPLETE: Final = object()


class OutOfStep(Exception):
    """The answers can't belong to the commands, so no later answer of this connection can be trusted."""


@dataclass(slots=True)
class _Write(Generic[Waiter]):
    """One write that is not answered completely."""

    waiters: list[Waiter]
    token: bytes
    size: int
    sent_at: float
    answers: list[Any] = field(default_factory=list)


class AnswerMatcher(Generic[Waiter]):
    """The commands of one connection that have no answer yet, in their order.

    `token` is the first part of each write's token: no stored value may contain it. `error_of` makes an exception of
    an error answer. `is_abandoned` says that a waiter needs no answer any more.
    """

    def __init__(
        self, token: bytes, error_of: Callable[[str], Exception], is_abandoned: Callable[[Waiter], bool]
    ) -> None:
        self._token = token
        self._is_abandoned = is_abandoned
        self._reader = hiredis.Reader(replyError=error_of, notEnoughData=_INCOMPLETE)
        self._queued: list[tuple[Waiter, bytes]] = []
        self._writes: deque[_Write[Waiter]] = deque()
        self._number = 0
        self.unanswered_bytes = 0
        """The size of all commands that are queued or have no answer yet."""

    @property
    def is_idle(self) -> bool:
        """Whether every command has its answer."""
        return not self._queued and not self._writes

    @property
    def oldest_sent_at(self) -> float | None:
        """When the first write was sent that is not answered yet."""
        return self._writes[0].sent_at if self._writes else None

    def add(self, waiter: Waiter, command: bytes) -> None:
        """Queue an encoded command for the next write."""
        self._queued.append((waiter, command))
        self.unanswered_bytes += len(command)

    def next_write(self, now: float) -> bytes:
        """Return the queued commands as one write; empty if there are none. Abandoned ones are never sent."""
        queued, self._queued = self._queued, []
        wanted = [(waiter, command) for waiter, command in queued if not self._is_abandoned(waiter)]
        size = sum(len(command) for _, command in wanted)
        self.unanswered_bytes -= sum(len(command) for _, command in queued) - size
        if not wanted:
            return b""
        self._number += 1
        token = b"%b %d" % (self._token, self._number)
        self._writes.append(_Write([waiter for waiter, _ in wanted], token, size, now))
        return b"%b*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (
            b"".join([command for _, command in wanted]),
            len(token),
            token,
        )

    def receive(self, data: bytes) -> Iterator[Settled[Waiter]]:
        """Return each waiter with a known answer. It must be exhausted before the next call.

        Raises:
            OutOfStep: an answer belongs to no command, a token is missing, or the bytes are not of the protocol.
        """
        self._reader.feed(data)
        while (answer := self._next_answer()) is not _INCOMPLETE:
            if not self._writes:
                raise OutOfStep("an answer without a command")
            write = self._writes[0]
            if len(write.answers) < len(write.waiters):
                write.answers.append(answer)
                continue
            if answer != write.token and not isinstance(answer, Exception):
                raise OutOfStep("an answer too many or too few")
            self._writes.popleft()
            self.unanswered_bytes -= write.size
            if isinstance(answer, Exception):
                yield from _unconfirmed(write, answer)
            else:
                yield from zip(write.waiters, write.answers, strict=True)

    def _next_answer(self) -> Any:
        try:
            while isinstance(answer := self._reader.gets(False), hiredis.PushNotification):
                pass  # belongs to no command by its nature
        except hiredis.ProtocolError as error:
            raise OutOfStep(str(error)) from None
        return answer

    def abandon_all(self) -> list[Waiter]:
        """Forget all commands; return their waiters, which will get no answer."""
        waiters = [waiter for write in self._writes for waiter in write.waiters]
        waiters += [waiter for waiter, _ in self._queued]
        self._writes.clear()
        self._queued.clear()
        self.unanswered_bytes = 0
        return waiters


def _unconfirmed(write: _Write[Waiter], refusal: Exception) -> Iterator[Settled[Waiter]]:
    """Settle a write after a busy server refused its token: only errors can be believed."""
    for waiter, answer in zip(write.waiters, write.answers, strict=True):
        yield waiter, answer if isinstance(answer, Exception) else _copy_of(refusal)


def _copy_of(error: Exception) -> Exception:
    """Copy an exception, since each waiter raises one with a traceback of its own."""
    return type(error)(*error.args)
