"""Test commands with answers that no gateway of Tailrace gives, and without stdout.

Tests with real gateways are in tests/clients/test_tailrace_*.py.
"""

import argparse
import hashlib
import sys

import pytest

from gateway.client.arguments import add_commands
from gateway.client.commands import run
from gateway.client.model.exit_status import ExitStatus
from tests.support.canned_responses import JOB, CannedGateway, answer, delta, problem, sent, stream

QUEUED = sent("queued", "0-1")


def completed(event_id: str, events: int, *contents: str, **more: object) -> bytes:
    """Build a terminal event that proves these deltas."""
    data = "".join(f'{{"content":"{content}"}}' for content in contents)
    return sent("completed", event_id, events=events, sha256=hashlib.sha256(data.encode()).hexdigest(), **more)


def tailrace(monkeypatch: pytest.MonkeyPatch, answers: list[bytes], *arguments: str) -> int:
    """Run a command with this gateway; return the exit status."""
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(dest="command"))
    gateway = CannedGateway(answers)
    monkeypatch.setenv("TAILRACE_URL", gateway.url)
    monkeypatch.setenv("TAILRACE_API_KEY", "sk-alice")
    try:
        return run(parser.parse_args(arguments))
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("frames", "status", "output"),
    [
        ([QUEUED, delta(1), completed("1-2", 3, "1")], ExitStatus.COMPLETE, "1\n"),
        ([QUEUED, delta(1), completed("1-2", 3, "2")], ExitStatus.FAILED, ""),
        ([QUEUED, delta(2), completed("1-3", 4, "2")], ExitStatus.FAILED, ""),
        ([delta(1), completed("1-2", 2, "1")], ExitStatus.FAILED, ""),
    ],
    ids=["proven", "another text", "an event is missing", "not from the start"],
)
def test_a_pipe_gets_only_proven_text(
    frames: list[bytes],
    status: int,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert tailrace(monkeypatch, [stream(*frames, ends=True)], "tail", JOB) == status

    out, err = (said.decode() for said in capsysbinary.readouterr())
    assert out == output
    assert ("Checksum mismatch" in err) is bool(status)


@pytest.mark.parametrize(
    ("result", "written"),
    [({"words": 3}, '{"words": 3}\n'), (3, "3\n"), ([], "[]\n"), ({"inputs": 1}, '{"inputs": 1}\n'), (None, "")],
)
def test_a_result_that_is_a_value_is_written_as_a_line_of_json(
    result: object, written: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    frames = QUEUED, completed("1-2", 2, result=result)
    assert tailrace(monkeypatch, [stream(*frames, ends=True)], "tail", JOB) == ExitStatus.COMPLETE

    assert capsysbinary.readouterr().out.decode() == written


@pytest.mark.parametrize(
    ("reason", "status", "sentence"),
    [
        ("stop", 0, ""),
        ("tool_calls", 0, ""),
        (None, 0, ""),
        ("length", 0, "tailrace: The answer was cut off: length.\n"),
        ("content_filter", 1, "tailrace: The answer was cut off: content_filter.\n"),
        ("odd\n\x1b[2J", 1, "tailrace: The answer was cut off: odd ␛[2J.\n"),
    ],
    ids=str,
)
def test_an_answer_is_a_success_if_its_finish_reason_means_a_whole_answer(
    reason: str | None,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    frames = [QUEUED, delta(1), completed("1-2", 3, "1", finish_reason=reason)]

    assert tailrace(monkeypatch, [stream(*frames, ends=True)], "tail", JOB) == status

    assert capsysbinary.readouterr() == (b"1\n", sentence.encode())


def test_a_job_that_had_ended_has_the_same_status_for_a_reader_of_its_end(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    nothing = answer(204)
    whole = stream(QUEUED, delta(1), completed("1-2", 3, "1", finish_reason="content_filter"), ends=True)

    assert tailrace(monkeypatch, [nothing, whole], "tail", JOB, "--from", "1-2") == ExitStatus.FAILED
    assert capsysbinary.readouterr() == (b"", b"tailrace: The answer was cut off: content_filter.\n")


def test_no_name_of_a_model_that_could_harm_a_terminal_reaches_stderr(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = {"data": [{"id": "a\x1b[2J\n\u202e"}, {"id": "b"}, {"id": "c"}]}

    assert tailrace(monkeypatch, [answer(200, names)], "submit", "hi") == ExitStatus.USAGE
    assert capsysbinary.readouterr().err.decode().endswith("the gateway serves: b, c.\n")


def test_a_request_for_a_part_prints_that_part(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    frames = [delta(2), completed("1-3", 4, "1", "2")]

    assert tailrace(monkeypatch, [stream(*frames, ends=True)], "tail", JOB, "--from", "1-1") == 0
    assert capsysbinary.readouterr().out == b"2\n"


def test_a_job_that_is_forgotten_twice_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    accepted, gone = answer(202, {"id": JOB}), problem(404, "There is no job.", code="job_not_found")

    status = tailrace(monkeypatch, [accepted, gone, accepted, gone], "submit", "--model", "m", "hi")

    assert status == ExitStatus.REFUSED
    assert capsysbinary.readouterr() == (b"", b"tailrace: There is no job.\n")


def test_a_forgotten_job_that_this_command_did_not_submit_is_not_submitted_again(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    gone = problem(404, "There is no job.", code="job_not_found")

    assert tailrace(monkeypatch, [stream(QUEUED), gone], "tail", JOB) == ExitStatus.REFUSED


def test_without_stdout_there_is_still_an_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    assert tailrace(monkeypatch, [stream(QUEUED, completed("1-1", 2), ends=True)], "tail", JOB) == 0


def test_the_only_model_of_a_gateway_that_names_none_can_not_be_found(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert tailrace(monkeypatch, [answer(200, {"data": []})], "submit", "hi") == ExitStatus.USAGE
    assert capsysbinary.readouterr().err.endswith(b"the gateway serves: none.\n")


def test_a_closed_stdin_is_a_missing_prompt(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert tailrace(monkeypatch, [], "submit", "--model", "m") == ExitStatus.USAGE
    assert capsysbinary.readouterr().err == b"tailrace: The prompt is missing: give it as an argument or pipe it in.\n"


def test_an_unreachable_gateway_ends_a_series_of_cancellations(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    done = answer(200, {"status": "cancelled"})

    assert tailrace(monkeypatch, [done], "cancel", "--patience", "0", JOB, JOB, JOB) == ExitStatus.UNREACHED
    out, err = capsysbinary.readouterr()
    assert (out, err.count(b"\n")) == (f"{JOB} cancelled\n".encode(), 1)


def test_a_link_is_opened_at_its_own_gateway_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = CannedGateway([stream(QUEUED, completed("1-1", 2), ends=True)])
    link = f"{elsewhere.url}/v1/jobs/{JOB}/events?token=t"

    assert tailrace(monkeypatch, [], "tail", link) == ExitStatus.COMPLETE

    elsewhere.close()
    (asked,) = elsewhere.asked
    assert asked.startswith(f"GET /v1/jobs/{JOB}/events?token=t ")
    assert "authorization" not in asked.lower()


@pytest.mark.parametrize("command", ["tail", "cancel"])
def test_a_key_does_not_go_to_another_gateway(
    command: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert tailrace(monkeypatch, [], command, f"http://t.example/v1/jobs/{JOB}") == ExitStatus.USAGE
    assert capsysbinary.readouterr().err.startswith(
        b"tailrace: That is an address at http://t.example: set TAILRACE_URL "
    )


def test_the_end_of_a_job_opened_by_a_link_is_read_from_its_log(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    end = sent("failed", "1-1", error={"message": "Oops."}, events=2)
    link, nothing = f"/v1/jobs/{JOB}/events?token=t", answer(204)

    assert tailrace(monkeypatch, [nothing, stream(QUEUED, end)], "tail", "--from", "1-1", link) == ExitStatus.FAILED
    assert capsysbinary.readouterr().err == f"tailrace: The job {JOB} failed: Oops.\n".encode()
    assert tailrace(monkeypatch, [nothing, nothing], "tail", "--from", "1-1", link) == ExitStatus.UNREACHED


@pytest.mark.parametrize(
    "arguments",
    [("requeue",), ("delete", "--limit", "3"), ("delete", JOB, "--all"), ("requeue", JOB, "--tenant", "bob")],
)
def test_dead_letters_are_named_or_described_and_not_both(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert tailrace(monkeypatch, [], "dead-letters", *arguments) == ExitStatus.USAGE

    out, err = capsysbinary.readouterr()
    assert (out, err.startswith(b"tailrace: Name the jobs, or select them with ")) == (b"", True)


def test_each_dead_letter_that_could_not_be_requeued_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    full = {"id": JOB, "requeued_as": None, "error": {"code": "queue_full", "message": "The lane is full."}}
    first = answer(200, {"data": [full], "has_more": True, "next": "1-x"})
    second = answer(
        200, {"data": [{"id": JOB, "requeued_as": "job_2", "error": None}], "has_more": False, "next": None}
    )

    assert tailrace(monkeypatch, [first, second], "dead-letters", "requeue", "--all") == ExitStatus.FAILED
    out, err = capsysbinary.readouterr()
    assert (out, err) == (f"{JOB} job_2\n".encode(), f"tailrace: {JOB}: The lane is full.\n".encode())
