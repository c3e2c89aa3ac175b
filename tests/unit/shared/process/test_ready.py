"""Test the report of a part that is ready."""

import os

from shared.process.ready import READY_LINE, report_ready


def test_the_parent_reads_one_line_and_the_pipe_ends() -> None:
    reading, writing = os.pipe()

    report_ready(writing)

    with open(reading, "rb") as pipe:
        assert pipe.read() == READY_LINE


def test_without_a_parent_nothing_is_written() -> None:
    report_ready(None)
