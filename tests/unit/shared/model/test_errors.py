"""Test the error tree: its picture, its codes and statuses."""

import re
from collections import Counter

import pytest

from shared.model import errors
from shared.model.errors import (
    REFUSALS,
    Abandoned,
    AttemptFailed,
    BadCursor,
    BoundReached,
    Cancelled,
    InternalError,
    MethodNotAllowed,
    ProviderRefused,
    ProviderTimeout,
    QueueFull,
    StartupError,
    TailraceError,
    TenantFull,
    TooManyBytes,
    TooManyStreams,
    TooManyWaiting,
    Unavailable,
    is_provider_fault,
    is_request_fault,
    problem_of,
    status_of,
)

_ROW = re.compile(r"^(?P<stem>[ │├└─]*)(?P<name>[A-Z]\w+)(?: +(?P<said>.*))?$")


def tree(root: type[TailraceError]) -> dict[str, str]:
    """Map class to parent, for each error that shared/model/errors defines under the root."""
    rows: dict[str, str] = {}
    for child in root.__subclasses__():
        if child.__module__.rpartition(".")[0] == errors.__name__:
            rows |= {child.__name__: root.__name__, **tree(child)}
    return rows


def picture() -> list[tuple[int, str, str]]:
    """Parse the docstring's drawing into rows of depth, name and the remark beside it."""
    lines = (errors.__doc__ or "").split("\n\n")[2].splitlines()
    rows = [match for match in map(_ROW.match, lines) if match]
    assert len(rows) == len(lines)
    return [(len(row["stem"]) // 4, row["name"], row["said"] or "") for row in rows]


def class_of(name: str) -> type[TailraceError]:
    found: type[TailraceError] = getattr(errors, name)
    return found


CLASSES: list[type[TailraceError]] = [TailraceError, *map(class_of, tree(TailraceError))]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    above: list[str] = []
    drawn: dict[str, str] = {}
    for depth, name, _ in picture():
        del above[depth - 1 :]
        if above:
            drawn[name] = above[-1]
        above.append(name)

    assert drawn == tree(TailraceError)


def test_the_docstring_gives_the_statuses_as_they_are() -> None:
    said = {name: int(number.group()) for _, name, text in picture() if (number := re.match(r"\d{3}\b", text))}

    assert said
    assert {name: class_of(name).status for name in said} == said


def test_each_code_belongs_to_one_error() -> None:
    codes = Counter(cls.code for cls in CLASSES if isinstance(vars(cls).get("code"), str))

    # The root is never raised itself: its code is that of a defect of ours.
    assert {code for code, count in codes.items() if count > 1} == {TailraceError.code}
    assert InternalError.code == TailraceError.code


def test_a_refusal_that_shares_its_code_with_an_error_means_the_same() -> None:
    for cls in CLASSES:
        if cls.code in REFUSALS:
            assert (cls.status, cls.retryable) == REFUSALS[cls.code]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if isinstance(vars(cls).get("code"), str)])
def test_the_status_of_an_error_can_be_read_back_from_its_code(cls: type[TailraceError]) -> None:
    assert status_of(cls.code) == cls.status


@pytest.mark.parametrize("code", REFUSALS)
def test_the_status_of_a_refusal_can_be_read_back_from_its_code(code: str) -> None:
    error = ProviderRefused("The provider said no.", code=code)

    assert status_of(code) == error.status
    assert (error.status, error.retryable) == REFUSALS[code]


def test_a_refused_key_of_a_provider_is_not_a_fault_of_the_caller() -> None:
    assert REFUSALS["upstream_auth"] == (502, False)


def test_an_unknown_code_is_our_own_fault() -> None:
    assert status_of("from a newer version") == 500


@pytest.mark.parametrize("cls", CLASSES)
def test_every_status_is_one_of_an_http_error(cls: type[TailraceError]) -> None:
    assert 400 <= cls.status <= 599


def test_errors_that_a_caller_may_retry_have_a_time_to_retry() -> None:
    assert all(cls.retry_after_s > 0 for cls in (QueueFull, Unavailable))


def test_a_problem_has_the_family_the_code_and_whether_to_retry() -> None:
    assert problem_of(ProviderTimeout("The provider was silent.")) == {
        "type": "provider_error",
        "code": "provider_timeout",
        "message": "The provider was silent.",
        "retryable": True,
    }
    assert problem_of(Cancelled("The job was cancelled on request."))["type"] == "job_error"


REQUEST_FAULTS = ("invalid_request", "context_length_exceeded", "content_policy_violation")


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_the_providers_fault_or_the_requests(code: str) -> None:
    error, of_the_request = ProviderRefused("No.", code=code), code in REQUEST_FAULTS

    assert is_request_fault(code) is of_the_request
    assert is_provider_fault(error) is not of_the_request
    assert problem_of(error)["type"] == ("request_error" if of_the_request else "provider_error")


def test_no_other_end_is_a_fault_of_the_provider_or_the_request() -> None:
    assert not is_provider_fault(Cancelled("The job was cancelled on request."))
    assert not any(map(is_request_fault, ("cancelled", "poison_job", "internal_error", "", "provider_timeout")))


def test_a_problem_names_the_field_that_is_to_blame() -> None:
    refused = ProviderRefused("n is too large.", code="invalid_request", param="n", retry_after_s=1.5)

    assert problem_of(refused)["param"] == "n"
    assert refused.retry_after_s == 1.5
    assert problem_of(BadCursor("This is not a cursor.", param="last_event_id"))["param"] == "last_event_id"
    assert "param" not in problem_of(BadCursor("This is not a cursor."))


def test_a_problem_has_the_time_to_retry_that_the_provider_gave() -> None:
    slow = ProviderRefused("Slow down.", code="rate_limit_exceeded", retry_after_s=7.0)

    assert problem_of(slow)["retry_after_s"] == 7.0
    assert "retry_after_s" not in problem_of(ProviderRefused("Slow down.", code="rate_limit_exceeded"))


def test_the_error_for_a_wrong_method_lists_the_allowed_ones() -> None:
    error = MethodNotAllowed("Use GET.", allowed="GET, HEAD")

    assert (error.allowed, error.status) == ("GET, HEAD", 405)
    assert "param" not in problem_of(error)


def test_the_code_in_the_record_gives_the_reason_of_a_cancellation() -> None:
    assert type(Cancelled.because("abandoned")) is Abandoned
    assert type(Cancelled.because("cancelled")) is Cancelled
    assert type(Cancelled.because("from a newer version")) is Cancelled


def test_an_error_reads_as_its_sentence() -> None:
    assert str(StartupError("Port 8080 is in use.")) == "Port 8080 is in use."
    assert issubclass(Abandoned, AttemptFailed)


@pytest.mark.parametrize(
    ("error", "count", "setting"),
    [
        (TooManyWaiting.at(7), "7 of your jobs", "max_waiting_per_tenant"),
        (TooManyStreams.at(7), "7 of your streams", "max_streams_per_tenant"),
        (TooManyBytes.at(7), "limit of 7 bytes", "max_bytes_per_tenant"),
    ],
)
def test_a_tenants_bound_is_named_with_its_setting(error: BoundReached, count: str, setting: str) -> None:
    assert (error.status, error.retryable) == (429, True)
    assert count in str(error) and setting in str(error)


def test_a_running_job_of_a_full_tenant_ends_with_the_settings_name() -> None:
    error = TenantFull.of_a_job()

    assert (error.code, error.status) == ("tenant_full", 429)
    assert "max_bytes_per_tenant" in str(error)
