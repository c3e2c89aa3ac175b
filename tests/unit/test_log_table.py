"""Compare the table of log lines in shared/README.md with the log calls of the code: levels, events and fields."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.docs import ROOT
from tests.unit.test_readme import table

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
# Not a log call: the stream itself writes it.
OF_THE_STREAM = "log.dropped"


class Line(NamedTuple):
    """A log line: its level, its event and the names of its fields."""

    level: str
    event: str
    fields: tuple[str, ...]


def lines_of(source: str) -> Iterator[Line]:
    """Yield the log calls of a module that have constant events."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(event)), *_],
                keywords=keywords,
            ) if level in LEVELS:
                yield Line(level, event, tuple(keyword.arg or "**" for keyword in keywords))


@pytest.fixture(scope="module")
def logged() -> set[Line]:
    """Return all lines of the code."""
    files = (file for room in ("gateway", "worker", "shared") for file in (ROOT / room).rglob("*.py"))
    return {line for file in files for line in lines_of(file.read_text("utf-8"))}


@pytest.fixture(scope="module")
def documented() -> list[Line]:
    """Return the lines of the table."""
    rows = table("level", "event", "fields", "when")
    return [
        Line(level, event.strip("`"), tuple(name.strip(" `") for name in fields.split(",") if name))
        for level, event, fields, _ in rows
    ]


def test_each_line_of_level_info_is_in_the_table_with_its_fields(logged: set[Line], documented: list[Line]) -> None:
    assert {line for line in logged if line.level == "info"} - set(documented) == set()


def test_each_row_is_a_line_of_the_code_and_comes_once(logged: set[Line], documented: list[Line]) -> None:
    assert {line for line in documented if line.event != OF_THE_STREAM} - logged == set()
    assert len({line.event for line in documented}) == len(documented)


def test_the_lines_that_requests_and_jobs_meet_in_are_there(documented: list[Line]) -> None:
    fields = {line.event: set(line.fields) for line in documented}
    assert {"job", "tenant", "lane", "kind", "model"} <= fields["job.submitted"] & fields["job.ended"]
    assert {"method", "path", "status", "ms"} == fields["request"]
