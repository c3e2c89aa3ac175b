"""Test the stream of the log: whole lines in order, no waiting for a slow reader, and nothing lost at a normal end."""

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from shared.telemetry.log_stream import LogStream, pieces

SOON_S = 5.0
NEVER_S = 3600.0
LINE = b"x" * 99 + b"\n"


class Pipe(NamedTuple):
    """A pipe that stands for stderr."""

    reader: int
    writer: int

    def lines(self, count: int) -> list[bytes]:
        """Read until there are so many lines; fail if they do not arrive soon."""
        said = b""
        while said.count(b"\n") < count:
            assert select.select([self.reader], [], [], SOON_S)[0], f"after {said[-200:]!r} nothing arrives"
            said += os.read(self.reader, 65_536)
        return said.splitlines(keepends=True)

    @property
    def empty(self) -> bool:
        """Return whether nothing can be read now."""
        return not select.select([self.reader], [], [], 0)[0]

    def fill(self) -> int:
        """Write until the pipe has no room; return the count of bytes."""
        os.set_blocking(self.writer, False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(self.writer, LINE * 40)
        os.set_blocking(self.writer, True)
        return count


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Open a pipe."""
    reader, writer = os.pipe()
    yield Pipe(reader, writer)
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def dropped(lines: int) -> bytes:
    """Make the line that names the dropped lines."""
    return b"dropped %d\n" % lines


@contextlib.contextmanager
def stream(pipe: Pipe, *, pause_s: float = 0.0, buffer_bytes: int = 100_000) -> Iterator[LogStream]:
    """Open a stream to a pipe, and close it."""
    log = LogStream(pipe.writer, dropped, pause_s=pause_s, buffer_bytes=buffer_bytes)
    try:
        yield log
    finally:
        log.close()


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    lines = [b"%d\n" % number for number in range(1000)]
    with stream(pipe) as log:
        for line in lines:
            log.write(line)
        assert pipe.lines(1000) == lines


def test_a_line_after_a_pause_is_written_at_once_and_the_next_ones_wait_for_company(pipe: Pipe) -> None:
    with stream(pipe, pause_s=NEVER_S) as log:
        log.write(b"first\n")
        assert pipe.lines(1) == [b"first\n"]
        log.write(b"second\n")
        assert pipe.empty
        log.write(b"third\n")
        log.flush()
        assert pipe.lines(2) == [b"second\n", b"third\n"]


def test_an_error_is_written_at_once_with_all_lines_before_it(pipe: Pipe) -> None:
    with stream(pipe, pause_s=NEVER_S) as log:
        log.write(b"first\n")
        pipe.lines(1)
        log.write(b"second\n")
        log.write_now(b"an error\n")
        assert pipe.lines(2) == [b"second\n", b"an error\n"]


def test_lines_that_wait_are_written_when_it_is_closed(pipe: Pipe) -> None:
    with stream(pipe, pause_s=NEVER_S) as log:
        log.write(b"first\n")
        pipe.lines(1)
        log.write(b"last\n")
    assert pipe.lines(1) == [b"last\n"]
    log.flush()


def test_a_reader_that_does_not_read_delays_no_writer_and_gets_the_number_of_lines_that_it_lost(pipe: Pipe) -> None:
    full = pipe.fill() // len(LINE)
    with stream(pipe, buffer_bytes=10 * len(LINE)) as log:
        for _ in range(25):
            log.write(LINE)
        log.flush(timeout_s=0)
        assert pipe.lines(full + 11) == [*[LINE] * (full + 10), b"dropped 15\n"]
        log.write(LINE)
        assert pipe.lines(1) == [LINE]


def test_a_file_that_another_process_has_made_non_blocking_is_waited_for(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, real = threading.Event(), select.select

    def watched(reads: list[int], writes: list[int], *others: Any) -> Any:
        if writes == [pipe.writer]:
            waits.set()
        return real(reads, writes, *others)

    monkeypatch.setattr(select, "select", watched)
    full = pipe.fill() // len(LINE)
    os.set_blocking(pipe.writer, False)
    with stream(pipe) as log:
        log.write(LINE)
        assert waits.wait(SOON_S)
        assert pipe.lines(full + 1) == [LINE] * (full + 1)


def test_without_a_reader_lines_are_dropped(pipe: Pipe) -> None:
    with stream(pipe) as log:
        os.close(pipe.reader)
        log.write(LINE)
        log.flush()


def test_lines_dropped_for_lack_of_a_file_are_named_once_there_is_one(pipe: Pipe) -> None:
    reader, writer = os.pipe()
    with stream(Pipe(reader, writer)) as log:
        os.close(reader)
        log.write(LINE + LINE)
        log.flush()
        os.dup2(pipe.writer, writer)
        log.write(LINE)
        assert pipe.lines(2) == [LINE, b"dropped 2\n"]
    os.close(writer)


def test_pieces_hold_whole_lines_that_a_pipe_takes_at_once() -> None:
    lines = [b"%d\n" % number * 30 for number in range(2000)]
    lines.insert(7, b"x" * 9000 + b"\n")
    made = list(pieces(lines, 4096))
    assert b"".join(made) == b"".join(lines)
    assert [len(piece) for piece in made if len(piece) > 4096] == [9001]
    assert all(piece.endswith(b"\n") for piece in made)
    assert all(len(first) + len(second) > 4096 for first, second in itertools.pairwise(made[2:]))


WRITER = """
import structlog, sys
from shared.telemetry.logs import configure_logs
configure_logs("info", "json")
log = structlog.get_logger()
for number in range(2000):
    log.info("a.line", number=number, by=sys.argv[1])
"""
ENDS = {
    "normally": ("", 0),
    "with_a_status": ("sys.exit(3)", 3),
    "with_an_exception": ("raise KeyError('gone')", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_loses_no_line(end: str) -> None:
    code, status = ENDS[end]
    done = subprocess.run([sys.executable, "-c", WRITER + code, "one"], capture_output=True, timeout=60, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == status
    assert [json.loads(line)["number"] for line in lines if line.startswith(b"{")] == list(range(2000))


def test_processes_that_share_a_pipe_do_not_mix_their_lines(pipe: Pipe) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], stderr=pipe.writer) for name in ("one", "two")]
    lines = [json.loads(line) for line in pipe.lines(4000)]
    assert [writer.wait(SOON_S) for writer in writers] == [0, 0]
    for name in ("one", "two"):
        assert [line["number"] for line in lines if line["by"] == name] == list(range(2000))


def test_a_killed_process_has_written_its_errors(pipe: Pipe) -> None:
    crash = 'log.error("an.error")\nsys.stdin.read()'
    writer = subprocess.Popen([sys.executable, "-c", WRITER + crash, "one"], stdin=subprocess.PIPE, stderr=pipe.writer)
    assert json.loads(pipe.lines(2001)[-1])["event"] == "an.error"
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(SOON_S) == -signal.SIGKILL
    assert writer.stdin is not None
    writer.stdin.close()
