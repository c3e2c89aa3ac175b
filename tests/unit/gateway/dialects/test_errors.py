"""Test the error envelope: the answer to OpenAI's clients for each kind of failure."""

import pytest

from gateway.dialects.errors import Failure, body_of, envelope, failure_in, failure_of, headers_of
from shared.model.errors import (
    REFUSALS,
    Abandoned,
    BodyTooLarge,
    Cancelled,
    DeadlinePassed,
    Draining,
    Forbidden,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    JobNotFound,
    MethodNotAllowed,
    ModelNotFound,
    ProviderRefused,
    ProviderTimeout,
    QueueFull,
    RedisUnavailable,
    TailraceError,
    Unauthenticated,
    problem_of,
)
from shared.model.events import Event, EventId, EventType, encode_data

NOT_AGAIN = {"x-should-retry": "false"}


def test_the_envelope_has_openais_four_fields() -> None:
    assert envelope("No.", "server_error", None, None) == {
        "error": {"message": "No.", "type": "server_error", "param": None, "code": None}
    }


@pytest.mark.parametrize(
    ("error", "status", "type_", "code", "headers"),
    [
        (InvalidRequest("No."), 400, "invalid_request_error", "invalid_request", {}),
        (Unauthenticated("No."), 401, "invalid_request_error", "invalid_api_key", {}),
        (Forbidden("No."), 403, "invalid_request_error", "forbidden", {}),
        (ModelNotFound("No."), 404, "invalid_request_error", "model_not_found", {}),
        (JobNotFound("No."), 404, "invalid_request_error", "job_not_found", {}),
        (MethodNotAllowed("No.", allowed="GET"), 405, "invalid_request_error", "method_not_allowed", {}),
        (BodyTooLarge("No."), 413, "invalid_request_error", "body_too_large", {}),
        (IdempotencyConflict("No."), 422, "invalid_request_error", "idempotency_conflict", {}),
        (QueueFull("No."), 429, "rate_limit_error", "rate_limit_exceeded", {"retry-after": "5"}),
        (RedisUnavailable("No."), 503, "server_error", "redis_unavailable", {"retry-after": "2"}),
        (Draining("No."), 503, "server_error", "draining", {"retry-after": "2"}),
        (ProviderTimeout("No."), 504, "server_error", "provider_timeout", {"retry-after": "2"}),
        (InternalError("No."), 500, "server_error", "internal_error", NOT_AGAIN),
        (DeadlinePassed("No."), 504, "server_error", "deadline_passed", NOT_AGAIN),
        (Cancelled("No."), 499, "cancelled", "cancelled", {}),
        (Abandoned("No."), 499, "cancelled", "abandoned", {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TailraceError) else "",
)
def test_each_error_of_the_tree_has_a_word_in_openais_language(
    error: TailraceError, status: int, type_: str, code: str, headers: dict[str, str]
) -> None:
    failure = failure_of(error)

    assert failure.status == status
    assert body_of(failure)["error"] == {"message": "No.", "type": type_, "param": None, "code": code}
    assert headers_of(failure) == headers


@pytest.mark.parametrize(
    ("code", "type_", "headers"),
    [
        ("invalid_request", "invalid_request_error", {}),
        ("context_length_exceeded", "invalid_request_error", {}),
        ("content_policy_violation", "invalid_request_error", {}),
        ("model_not_found", "invalid_request_error", {}),
        ("rate_limit_exceeded", "rate_limit_error", {"retry-after": "2"}),
        ("insufficient_quota", "insufficient_quota", NOT_AGAIN),
        ("upstream_auth", "server_error", NOT_AGAIN),
        ("provider_error", "server_error", NOT_AGAIN),
        ("provider_overloaded", "server_error", {"retry-after": "2"}),
    ],
)
def test_a_providers_refusal_reads_the_same_when_it_was_raised_and_when_it_ended_a_job(
    code: str, type_: str, headers: dict[str, str]
) -> None:
    error = ProviderRefused("No.", code=code, param="messages")
    event = Event(EventType.FAILED, EventId(1, 4), encode_data({"error": problem_of(error), "events": 4}))

    assert failure_in(event) == failure_of(error)
    assert failure_in(event).status == REFUSALS[code][0]
    assert body_of(failure_in(event))["error"] == {
        "message": "No.",
        "type": type_,
        "param": "messages",
        "code": code,
    }
    assert headers_of(failure_in(event)) == headers


def test_the_wait_that_a_provider_asked_for_reaches_the_caller_of_the_failed_job() -> None:
    error = ProviderRefused("Slow down.", code="rate_limit_exceeded", retry_after_s=6.5)
    event = Event(EventType.FAILED, EventId(1, 4), encode_data({"error": problem_of(error), "events": 4}))

    assert headers_of(failure_in(event)) == {"retry-after": "7"}


def test_an_error_names_the_field_it_blames() -> None:
    failure = failure_of(InvalidRequest("`n` must be a number.", param="n"))

    assert body_of(failure)["error"]["param"] == "n"


def test_a_wait_that_the_provider_asked_for_is_passed_on_in_whole_seconds() -> None:
    failure = failure_of(ProviderRefused("No.", code="rate_limit_exceeded", retry_after_s=6.2))

    assert headers_of(failure) == {"retry-after": "7"}


def test_a_permanent_conflict_is_not_to_be_repeated() -> None:
    failure = Failure(code="conflict", message="No.", status=409, retryable=False)

    assert headers_of(failure) == NOT_AGAIN
