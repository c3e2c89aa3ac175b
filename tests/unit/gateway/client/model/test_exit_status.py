"""Test exit statuses, as scripts rely on them."""

import pytest

from gateway.client.model.exit_status import MEANINGS, ExitStatus, of_end, of_error
from shared.model import errors
from shared.model.errors import (
    AnswerNotWhole,
    BadCursor,
    EventTooLarge,
    GatewayGarbage,
    GatewayRefused,
    GatewayUnreachable,
    InvalidRequest,
    StartupError,
    TailraceError,
)
from shared.model.events import TERMINAL_EVENTS
from shared.model.lifecycle import TERMINAL


def test_the_numbers_are_a_promise() -> None:
    assert [int(status) for status in ExitStatus] == [0, 1, 2, 3, 4, 5, 130, 141]
    assert list(MEANINGS) == list(ExitStatus)


def test_every_end_has_one() -> None:
    assert {name: int(of_end(name)) for name in ("completed", "failed", "cancelled", "expired")} == {
        "completed": 0,
        "failed": 1,
        "cancelled": 3,
        "expired": 3,
    }
    assert {str(name) for name in TERMINAL_EVENTS} == {str(state) for state in TERMINAL}


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "length", None])
def test_a_whole_answer_is_a_success(reason: object) -> None:
    assert of_end("completed", reason) == ExitStatus.COMPLETE
    assert of_end("failed", reason) == ExitStatus.FAILED


@pytest.mark.parametrize("reason", ["content_filter", "error", "recitation", []], ids=str)
def test_an_answer_that_is_cut_off_is_a_failure(reason: object) -> None:
    assert of_end("completed", reason) == ExitStatus.FAILED


def test_an_unknown_end_of_a_newer_version_is_a_failure() -> None:
    assert of_end("applauded") == ExitStatus.FAILED


@pytest.mark.parametrize(
    ("answered", "status"), [(400, 2), (413, 2), (422, 2), (401, 4), (403, 4), (404, 4), (301, 5), (500, 5)]
)
def test_the_exit_status_of_a_refusal_follows_its_http_status(answered: int, status: int) -> None:
    assert of_error(GatewayRefused("No.", http_status=answered)) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GatewayUnreachable, 5),
        (GatewayGarbage, 5),
        (AnswerNotWhole, 1),
        (EventTooLarge, 1),
        (StartupError, 2),
        (InvalidRequest, 2),
        (BadCursor, 2),
    ],
)
def test_every_other_error_has_its_own(error: type[TailraceError], status: int) -> None:
    assert of_error(error("It is so.")) == status


def test_a_refusal_has_the_sentence_status_and_code_of_the_answer() -> None:
    refused = GatewayRefused("There is no job.", http_status=404, reported_code=errors.JobNotFound.code)

    assert (str(refused), refused.http_status, refused.reported_code) == ("There is no job.", 404, "job_not_found")
