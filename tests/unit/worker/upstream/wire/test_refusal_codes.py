"""Test the meaning of an upstream's error, by its status, its names and its words."""

import pytest

from shared.model.errors import REFUSALS
from worker.upstream.wire.refusal_codes import (
    _GENERAL,
    _PRECISE,
    _STATUSES,
    _VAGUE,
    MINIMAX,
    TIMEOUT,
    as_status,
    code_of,
)

OVERFLOWS = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages).",
    "'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens, and you have 10 tokens.",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "Input length (5000 tokens) exceeds the maximum allowed length (4096 tokens). Use a shorter input.",
    "max_tokens must be at least 1, got -55. (parameter=max_tokens, value=-55)",
    "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "the request exceeds the available context size, try increasing it",
    "input (901 tokens) is too large to process. increase the physical batch size",
    "prompt is too long: 200001 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
    "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Input tokens exceed the configured limit of 272000 tokens.",
    "Input is too long for requested model.",
    "Please reduce the length of the messages or completion.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "`inputs` must have less than 1024 tokens. Given: 2000",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "invalid params, context window exceeds limit",
    "Your request exceeded model token limit: 262144 (requested: 300000)",
    "Prompt exceeds max length",
    "the model is loaded with context length of only 4096 tokens",
]


@pytest.mark.parametrize("words", OVERFLOWS)
@pytest.mark.parametrize("status", [None, 400, 422, 500])
def test_an_input_that_is_too_long_is_recognized_in_each_providers_wording(words: str, status: int | None) -> None:
    assert code_of(status, ["BadRequestError"], words) == "context_length_exceeded"


@pytest.mark.parametrize(
    ("status", "names", "words", "code"),
    [
        (429, ["tokens"], "Rate limit reached on tokens per min (TPM): Limit 30000.", "rate_limit_exceeded"),
        (429, [], "Request too large for gpt-4o on tokens per min (TPM): Limit 3, Requested 4.", "rate_limit_exceeded"),
        (400, [], "Too many tokens per minute.", "invalid_request"),
        (None, ["ThrottlingException"], "Too many tokens, please wait before trying again.", "rate_limit_exceeded"),
        (429, ["RESOURCE_EXHAUSTED"], "You exceeded your current quota. Please retry in 23.8s.", "rate_limit_exceeded"),
        (429, [], "You exceeded your current quota. Please retry in 23.8s.", "rate_limit_exceeded"),
        (429, [], "You exceeded your current quota, please check your plan and billing.", "insufficient_quota"),
        (429, ["exceeded_current_quota_error"], "", "insufficient_quota"),
        (400, [], "Your credit balance is too low to access the API.", "insufficient_quota"),
        (402, [], "Insufficient Balance", "insufficient_quota"),
        (400, ["Arrearage"], "Access denied.", "insufficient_quota"),
        (
            400,
            [],
            "max_tokens is too large: 5000. This model supports at most 4096 completion tokens.",
            "invalid_request",
        ),
        (400, ["string_above_max_length"], "metadata.a exceeds the maximum length of 512.", "invalid_request"),
        (400, [], "Your request was rejected as a result of our safety system.", "content_policy_violation"),
        (400, [], "Content Exists Risk", "content_policy_violation"),
        (400, ["DataInspectionFailed"], "Input data may contain inappropriate content.", "content_policy_violation"),
        (403, [], "Your chosen model requires moderation and your input was flagged.", "content_policy_violation"),
        (400, ["INVALID_ARGUMENT"], "API key not valid. Please pass a valid API key.", "upstream_auth"),
        (400, [], "Model Not Exist", "model_not_found"),
        (400, [], "foo/bar is not a valid model ID", "model_not_found"),
        (404, ["NotFoundError"], "The model `x` does not exist.", "model_not_found"),
        (404, ["DeploymentNotFound"], "", "model_not_found"),
        (None, ["NotFoundError"], "", "model_not_found"),
        (500, ["server_error"], "Oops.", "server_error"),
        (500, ["overloaded_error"], "", "provider_overloaded"),
        (429, ["engine_overloaded_error"], "", "provider_overloaded"),
        (400, ["api_error"], "No.", "invalid_request"),
        (501, [], "", "server_error"),
        (503, [], "", "provider_overloaded"),
        (504, [], "", TIMEOUT),
        (408, [], "", TIMEOUT),
        (None, ["TimeoutError"], "", TIMEOUT),
        (401, ["invalid_request_error"], "", "upstream_auth"),
        (None, ["invalid_request_error"], "", "invalid_request"),
        (418, [], "", "provider_error"),
        (None, ["unheard_of"], "Oops.", "provider_error"),
    ],
)
def test_an_error_is_mapped_to_its_code(status: int | None, names: list[str], words: str, code: str) -> None:
    assert code_of(status, names, words) == code


def test_an_empty_error_has_the_code_of_its_place() -> None:
    assert code_of(None, [], "", "server_error") == "server_error"


def test_case_and_separators_of_a_name_do_not_matter() -> None:
    for name in ("rate_limit_error", "RateLimitError", "RATE-LIMIT-ERROR"):
        assert code_of(None, [name], "") == "rate_limit_exceeded"


def test_the_first_name_that_is_known_counts() -> None:
    assert code_of(429, ["tokens", "insufficient_quota", "rate_limit_exceeded"], "") == "insufficient_quota"


def test_each_code_is_one_of_ours() -> None:
    codes = {*_PRECISE, *_GENERAL, *_VAGUE, *_STATUSES.values(), *MINIMAX.values()}

    assert codes - {TIMEOUT} <= REFUSALS.keys()


def test_no_name_is_listed_twice() -> None:
    names = [name for table in (_PRECISE, _GENERAL, _VAGUE) for each in table.values() for name in each]

    assert len(names) == len({*names})
    assert all(name.isalnum() and name.islower() for name in names)


@pytest.mark.parametrize(
    ("code", "status"),
    [(400, 400), ("503", 503), (599, 599), (600, None), (399, None), (True, None), ("4.0", None), ("٤٠٠", None)],
)
def test_a_code_can_be_a_status(code: object, status: int | None) -> None:
    assert as_status(code) == status


@pytest.mark.parametrize("code", [None, [400], {"a": 1}, 400.0, 1500, "x", -40])
def test_most_codes_are_not_a_status(code: object) -> None:
    assert as_status(code) is None


def test_a_very_long_message_is_read_too() -> None:
    assert code_of(400, [], "exceed context too long for " * 400_000) == "context_length_exceeded"
    assert code_of(400, [], "model " * 1_000_000) == "invalid_request"
