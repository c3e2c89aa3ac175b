"""Write lines to a file descriptor from a thread of its own, so that a slow reader of the log delays no event loop.

A line that follows a pause is written at once; lines that follow it closely are written together. Each write(2) has
whole lines, and few enough that a pipe takes them in one piece: other processes may write to the same pipe.
Not here: the form of a line (log_lines.py).
"""

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue

PAUSE_S = 0.1
"""The time between two writes: the longest time that a line waits in this process while the log's reader reads."""
BUFFER_BYTES = 1_048_576
"""The lines that may wait for a log's reader that does not read; those beyond it are dropped and counted."""
EXIT_S = 2.0
"""The time that a process waits at its end for a log's reader that does not read."""


class LogStream:
    """The log of one process: any thread may write to it, without waiting."""

    def __init__(
        self,
        fd: int,
        dropped: Callable[[int], bytes],
        *,
        pause_s: float = PAUSE_S,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """Start the thread that writes to `fd`. `dropped` makes the line that says how many lines were dropped."""
        self._fd = fd
        self._dropped_line = dropped
        self._pause_s = pause_s
        self._buffer_bytes = buffer_bytes
        # Re-entrant: a signal handler, or a destructor that the collector calls, may log in the middle of a write.
        self._lock = threading.RLock()
        self._waiting: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._waiting_bytes = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Write a line soon; drop and count it if too many wait."""
        with self._lock:
            if self._waiting_bytes + len(line) > self._buffer_bytes:
                self._dropped += 1
                return
            self._waiting_bytes += len(line)
        self._waiting.put(line)

    def write_now(self, line: bytes) -> None:
        """Write a line without the pause that others make: the process may be about to die."""
        self.write(line)
        self._hurry.put(None)

    def flush(self, timeout_s: float = EXIT_S) -> None:
        """Wait until all lines up to now are written, at most `timeout_s`."""
        if self._thread.is_alive():
            written = threading.Event()
            self._waiting.put(written)
            self._hurry.put(None)
            written.wait(timeout_s)

    def close(self, timeout_s: float = EXIT_S) -> None:
        """Write the waiting lines, and end the thread; wait for it at most `timeout_s`."""
        self._waiting.put(None)
        self._hurry.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        open_ = True
        while open_:
            open_ = self._write_waiting()
            if open_:
                with contextlib.suppress(Empty):
                    self._hurry.get(timeout=self._pause_s)

    def _write_waiting(self) -> bool:
        """Wait for a line, then write all that wait. Return whether more may come."""
        items = [self._waiting.get()]
        with contextlib.suppress(Empty):
            while True:
                items.append(self._waiting.get_nowait())
        lines = [item for item in items if isinstance(item, bytes)]
        for piece in pieces(lines, select.PIPE_BUF):
            self._write_piece(piece)
        with self._lock:
            self._waiting_bytes -= sum(map(len, lines))
            dropped, self._dropped = self._dropped, 0
        if dropped and not self._write_whole(self._dropped_line(dropped)):
            with self._lock:
                self._dropped += dropped
        for item in items:
            if isinstance(item, threading.Event):
                item.set()
        return None not in items

    def _write_piece(self, piece: bytes) -> None:
        if not self._write_whole(piece):
            with self._lock:
                self._dropped += piece.count(b"\n")

    def _write_whole(self, data: bytes) -> bool:
        """Write all bytes; return False if the log has no reader, or no room on its disk."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Another process that shares this file has made it non-blocking.
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True


def pieces(lines: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Join lines to pieces of at most `most` bytes; a line that is longer is a piece of its own."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)
