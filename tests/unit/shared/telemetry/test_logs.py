"""Test the log: one shape for every process, ids from the context, and no secrets."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared.config.environment import Note, Trouble
from shared.telemetry.log_stream import LogStream
from shared.telemetry.logs import configure_logs, log_notes, wants_console

Written = Callable[[LogStream], str]
Logged = Callable[[LogStream], list[dict[str, Any]]]


class Loud:
    """Shows itself as it likes."""

    def __repr__(self) -> str:
        return "\x1b[2J\n"


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Undo the changes that `configure_logs` makes in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


@pytest.fixture
def written(capfd: pytest.CaptureFixture[str]) -> Written:
    """Return the output on stderr since the last call, once all lines are written."""

    def written(log: LogStream) -> str:
        log.flush()
        return capfd.readouterr().err

    return written


@pytest.fixture
def logged(written: Written) -> Logged:
    """Return the output on stderr since the last call, as records."""
    return lambda log: [json.loads(line) for line in written(log).splitlines()]


def test_an_event_is_one_line_of_json_with_its_fields(logged: Logged) -> None:
    log = configure_logs("info", "json")
    structlog.get_logger().info("attempt.ended", job="job_1", ms=12.5)
    (record,) = logged(log)
    assert record.pop("time").endswith("Z")
    assert record == {"event": "attempt.ended", "job": "job_1", "ms": 12.5, "level": "info"}


def test_a_terminal_gets_no_control_characters_of_addresses_and_upstreams(written: Written) -> None:
    log = configure_logs("info", "console")
    structlog.get_logger().info("request", path="/v1/models/a\x1b[2J\x9b\u202e\ud800", reason="two\nlines \x07")
    logging.getLogger("some.library").warning("it said %s", "\x1b]0;owned\x07")
    said = written(log)

    assert "/v1/models/a\\x1b[2J\\x9b\\u202e\\ud800" in said
    assert all(char.isprintable() or char == "\n" for char in said)


@pytest.mark.parametrize("value", [{"a\x1b": "b\x9b"}, ["\u202e"], ValueError("\x1b[2J"), Loud(), ("\r",)], ids=type)
def test_no_value_of_any_type_steers_a_terminal(value: object, written: Written) -> None:
    log = configure_logs("info", "console")
    structlog.get_logger().info("an.event", value=value, **{"key\x1b": 1})
    structlog.get_logger().info(value)
    try:
        raise RuntimeError("\x1b]0;owned\x07\n2026-11-30 12:00:00 [info     ] forged")
    except RuntimeError:
        structlog.get_logger().exception("\x1b[2Jcrashed")
    said = written(log)

    assert all(char.isprintable() or char == "\n" for char in said)
    assert not any(line.startswith("2026-11-30 12:00:00") for line in said.splitlines())


def test_a_line_end_in_an_address_begins_no_line(written: Written) -> None:
    log = configure_logs("info", "console")
    structlog.get_logger().info("request", path="/a\n12:00:00 [info] forged", method="GET\u2028")
    assert len(written(log).splitlines()) == 1


def test_a_line_of_json_has_no_half_of_a_character_and_no_line_end(logged: Logged) -> None:
    log = configure_logs("info", "json")
    structlog.get_logger().info("request", path="/a\ud800", nested={"b\udc00": ["\u2028"]}, number=float("nan"))
    (record,) = logged(log)
    assert (record["path"], record["nested"]) == ("/a\ufffd", {"b\ufffd": ["\u2028"]})
    assert record["number"] == "nan"


def test_ids_bound_in_the_context_are_in_every_record_also_in_those_of_libraries(logged: Logged) -> None:
    log = configure_logs("info", "json")
    with structlog.contextvars.bound_contextvars(job="job_1"):
        structlog.get_logger().info("attempt.ended")
        logging.getLogger("some.library").warning("it said %s", "so")
    ours, theirs = logged(log)
    assert ours["job"] == theirs["job"] == "job_1"
    assert theirs["event"] == "it said so"
    assert theirs["logger"] == "some.library"


def test_an_event_below_the_level_is_not_logged(logged: Logged) -> None:
    log = configure_logs("warning", "json")
    structlog.get_logger().info("too.small")
    structlog.get_logger().warning("big.enough")
    assert [record["event"] for record in logged(log)] == ["big.enough"]


@pytest.mark.parametrize("name", ["uvicorn.error", "arq.worker", "openai._base_client", "httpx2", "asyncio"])
def test_libraries_that_log_each_request_are_logged_from_warnings_on(name: str, logged: Logged) -> None:
    log = configure_logs("debug", "json")
    logging.getLogger(name).debug("Request options: {'messages': ...}")
    logging.getLogger(name).info("GET /v1/jobs/x/events?token=abc")
    logging.getLogger(name).warning("something is wrong")
    assert [record["event"] for record in logged(log)] == ["something is wrong"]


def test_uvicorns_access_log_is_off(logged: Logged) -> None:
    log = configure_logs("debug", "json")
    logging.getLogger("uvicorn.access").error("127.0.0.1 - GET /v1/jobs/x/events?token=abc")
    assert logged(log) == []


def test_a_library_s_message_that_does_not_fit_its_arguments_is_logged_without_them(logged: Logged) -> None:
    log = configure_logs("info", "json")
    logging.getLogger("some.library").warning("it has %d parts", "many")
    assert [record["event"] for record in logged(log)] == ["it has %d parts"]


def test_a_traceback_of_a_library_is_one_field_without_secrets(logged: Logged) -> None:
    log = configure_logs("info", "json")
    try:
        raise ConnectionError("redis://:hunter2@host is away")
    except ConnectionError:
        logging.getLogger("some.library").exception("it failed")
    (record,) = logged(log)
    assert (record["event"], record["level"]) == ("it failed", "error")
    assert record["exception"].endswith("ConnectionError: redis://:***@host is away")


def test_only_an_unintended_break_of_a_stream_is_logged_as_an_error(logged: Logged) -> None:
    log = configure_logs("info", "json")
    logging.getLogger("uvicorn.error").error("ASGI callable returned without completing response.")
    logging.getLogger("uvicorn.error").error("ASGI callable returned without starting response.")
    assert [record["event"] for record in logged(log)] == ["ASGI callable returned without starting response."]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(log_format: str, written: Written) -> None:
    log = configure_logs("info", log_format)
    prompt = "what nobody may read"
    try:
        int(f"{len(prompt)} apples")
    except ValueError:
        structlog.get_logger().exception("request.crashed")
    said = written(log)
    assert "ValueError" in said
    assert "request.crashed" in said
    assert prompt not in said


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_hidden_wherever_it_stands_in_a_record(log_format: str, written: Written) -> None:
    log = configure_logs("info", log_format)
    try:
        raise ConnectionError("redis://:hunter2@127.0.0.1:6379/0 is away")
    except ConnectionError:
        structlog.get_logger().exception(
            "request.crashed", headers={"authorization": "Bearer hunter2"}, link="/v1/jobs/job_1/events?token=hunter2"
        )
    said = written(log)
    assert "hunter2" not in said
    assert "127.0.0.1:6379" in said


def test_the_format_for_people_is_chosen_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=is_terminal: answer)
        assert wants_console("auto") is is_terminal
        assert wants_console("console") is True
        assert wants_console("json") is False


def test_configured_again_the_last_call_counts(written: Written) -> None:
    configure_logs("info", "json")
    log = configure_logs("info", "console")
    structlog.get_logger().info("part.started", part="gateway")
    (line,) = written(log).splitlines()
    assert "part.started" in line
    assert "part=gateway" in line
    assert not line.startswith("{")


def test_variables_that_are_not_read_are_logged(written: Written) -> None:
    log = configure_logs("info", "json")
    log_notes([Note(Trouble.MISSPELT, "TAILRACE_PROT", "TAILRACE_PROT is not a setting.")])

    (line,) = [json.loads(text) for text in written(log).splitlines()]
    assert (line["event"], line["level"]) == ("settings.unknown_variable", "warning")
    assert (line["variable"], line["reason"]) == ("TAILRACE_PROT", "TAILRACE_PROT is not a setting.")
