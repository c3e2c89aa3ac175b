"""Test that callers see an upstream's words about their request, and no others."""

import pytest

from shared.model.errors import REFUSALS, ProviderRefused, ProviderTimeout
from worker.upstream.wire.disclosure import Disclosed, SentRequest, disclose, quotation
from worker.upstream.wire.refusal_codes import TIMEOUT
from worker.upstream.wire.refusals import Refusal

ABOUT_THE_REQUEST = (
    *("invalid_request", "context_length_exceeded", "content_policy_violation", "model_not_found", "provider_error"),
)
PRIVATE = "Rate limit of org-abc123 at https://api.example.com for sk-...abcd, account 77."


def shown(refusal: Refusal, **request: object) -> Disclosed:
    return disclose(refusal, "mock", SentRequest({"messages": [], **request}), secret="sk-ours-1234")


@pytest.mark.parametrize("code", ABOUT_THE_REQUEST)
def test_a_message_about_the_request_is_shown_and_not_logged(code: str) -> None:
    disclosed = shown(Refusal(code, "n must be 1", 400))

    assert str(disclosed.error) == "The provider mock answered with 400: n must be 1"
    assert disclosed.hidden == ""


@pytest.mark.parametrize("code", sorted({*REFUSALS, TIMEOUT} - {*ABOUT_THE_REQUEST}))
def test_any_other_message_is_a_fixed_sentence_and_only_the_log_has_it(code: str) -> None:
    disclosed = shown(Refusal(code, f"{PRIVATE} Key: sk-ours-1234", 429))
    other = shown(Refusal(code, "Oops.", 429))

    assert str(disclosed.error) == str(other.error)
    assert "org-" not in str(disclosed.error)
    assert "org-abc123 at https://api.example.com for ***" in disclosed.hidden
    assert "ours" not in disclosed.hidden


@pytest.mark.parametrize("code", ABOUT_THE_REQUEST)
@pytest.mark.parametrize(
    "words",
    [
        "Your account is not active, please check your billing details.",
        "Your organization must be verified to use this model.",
        "Your credit balance is too low.",
        "This API key may not use the model.",
        "The default project has no subscription.",
    ],
)
def test_a_message_about_the_account_is_not_shown_under_any_code(code: str, words: str) -> None:
    disclosed = shown(Refusal(code, words, 400))

    assert str(disclosed.error) == "The provider mock answered with 400: its reason is in this gateway's log."
    assert disclosed.hidden == words


def test_private_parts_are_removed_from_a_message_about_the_request() -> None:
    disclosed = shown(Refusal("invalid_request", "Bad image at 10.0.0.7, see org-abc123.", 400))

    assert str(disclosed.error) == "The provider mock answered with 400: Bad image at ***, see ***."
    assert disclosed.hidden == "Bad image at 10.0.0.7, see org-abc123."


def test_an_address_of_the_request_is_shown() -> None:
    disclosed = shown(
        Refusal("invalid_request", "No image at https://a.example/b.png.", 400), x="https://a.example/b.png"
    )

    assert str(disclosed.error).endswith("No image at https://a.example/b.png.")


@pytest.mark.parametrize("words", ["Provider returned error", "Overloaded", "Slow down."])
def test_a_harmless_message_is_shown(words: str) -> None:
    assert str(shown(Refusal("server_error", words, 502)).error) == f"The provider mock answered with 502: {words}"


def test_the_finish_reason_of_a_broken_answer_is_shown() -> None:
    words = "The answer broke off (finish reason abort)."
    assert str(shown(Refusal("server_error", words)).error) == f"The provider mock answered with an error: {words}"


def test_a_refusal_without_a_message_has_a_fixed_sentence() -> None:
    assert str(shown(Refusal("invalid_request")).error) == "The provider mock answered with an error."


def test_a_refusal_is_a_failed_attempt_and_a_long_wait_a_time_out() -> None:
    refused = disclose(Refusal("rate_limit_exceeded", "", 429), "mock", SentRequest({}), retry_after_s=2.5).error

    assert isinstance(refused, ProviderRefused)
    assert (refused.code, refused.retry_after_s) == ("rate_limit_exceeded", 2.5)
    assert isinstance(shown(Refusal(TIMEOUT)).error, ProviderTimeout)


@pytest.mark.parametrize(
    ("param", "request_", "named"),
    [
        ("n", {"n": 2}, "n"),
        ("messages[0].content", {}, "messages[0].content"),
        ("n", {}, None),
        ("internal_flag", {}, None),
        (None, {"n": 2}, None),
        ("max_tokens", {"max_completion_tokens": 5}, "max_completion_tokens"),
        ("max_completion_tokens", {}, None),
    ],
)
def test_a_field_is_named_only_if_its_caller_sent_it(
    param: str | None, request_: dict[str, object], named: str | None
) -> None:
    fields = (param.partition("[")[0],) if param else ()
    error = shown(Refusal("invalid_request", "Bad.", 400, param, fields), **request_).error

    assert isinstance(error, ProviderRefused)
    assert error.param == named


def test_an_answer_that_speaks_about_the_account_is_not_quoted() -> None:
    assert quotation("Your account has no credit.", lambda _: True, None) == ""
    assert quotation("The text is too long.", lambda _: True, None) == "The text is too long."
