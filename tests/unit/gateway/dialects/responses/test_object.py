"""Test the response object: its ids, its usage, its error, and the fields that repeat the request."""

from typing import Any

import pytest

from gateway.dialects.errors import Failure
from gateway.dialects.responses.object import (
    ResponseOptions,
    error_of,
    job_id_of,
    response_id,
    response_object,
    tier_of,
    usage_of,
)
from gateway.dialects.responses.tools import ADDITIONAL_TOOLS
from shared.model.errors import status_of
from shared.model.jobs import new_job_id

JOB = new_job_id(1_700_000_000_321, 42)
BARE = JOB.removeprefix("job_")


def failure(code: str, *, retryable: bool = False) -> Failure:
    return Failure(code, "No.", status_of(code), retryable, param="input")


class TestIds:
    def test_a_response_is_its_job_under_another_name(self) -> None:
        assert response_id(JOB) == f"resp_{BARE}"
        assert job_id_of(f"resp_{BARE}") == JOB

    @pytest.mark.parametrize("other", [JOB, BARE, f"msg_{BARE}", ""])
    def test_an_id_that_is_not_a_responses_has_no_job(self, other: str) -> None:
        assert job_id_of(other) == ""


class TestError:
    @pytest.mark.parametrize(
        ("code", "retryable", "shown"),
        [
            ("rate_limit_exceeded", True, "rate_limit_exceeded"),
            ("provider_overloaded", True, "server_error"),
            ("server_error", True, "server_error"),
            ("provider_truncated", True, "server_error"),
            ("upstream_auth", False, "server_error"),
            ("invalid_request", False, "invalid_prompt"),
            ("content_policy_violation", False, "invalid_prompt"),
            ("model_not_found", False, "invalid_prompt"),
            ("context_length_exceeded", False, "context_length_exceeded"),
            ("insufficient_quota", False, "insufficient_quota"),
        ],
    )
    def test_a_client_repeats_only_the_failures_that_can_pass(self, code: str, retryable: bool, shown: str) -> None:
        assert error_of(failure(code, retryable=retryable))["code"] == shown

    def test_an_error_names_its_type_and_the_field(self) -> None:
        assert error_of(failure("invalid_request")) == {
            "code": "invalid_prompt",
            "message": "No.",
            "param": "input",
            "type": "invalid_request_error",
        }


class TestUsage:
    def test_details_are_passed_on_if_they_are_counts(self) -> None:
        shown = usage_of(
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 4,
                    "total_tokens": 13,
                    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": "three"},
                }
            }
        )

        assert shown == {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 13,
        }

    @pytest.mark.parametrize(
        ("details", "cached"), [({}, 7), ({"cached_tokens": None}, 7), ({"cached_tokens": 5}, 5), (None, 7)]
    )
    def test_cache_hits_beside_the_details_count_if_the_details_have_none(self, details: Any, cached: int) -> None:
        usage = {"prompt_cache_hit_tokens": 7, "prompt_tokens_details": details}

        assert usage_of({"usage": usage})["input_tokens_details"]["cached_tokens"] == cached

    def test_a_job_without_usage_has_counts_of_0(self) -> None:
        assert usage_of({"usage": None})["total_tokens"] == 0


class TestTier:
    @pytest.mark.parametrize(
        ("delta", "tier"),
        [
            ({"chunk_extra": {"service_tier": "flex"}}, "flex"),
            ({"chunk_extra": {"service_tier": "auto"}}, None),
            ({"chunk_extra": {"service_tier": ["flex"]}}, None),
            ({"chunk_extra": {"system_fingerprint": "x"}}, None),
            ({"content": "a"}, None),
        ],
        ids=str,
    )
    def test_the_tier_is_the_used_one_if_clients_know_it(self, delta: Any, tier: str | None) -> None:
        assert tier_of(delta) == tier

    def test_the_used_tier_replaces_the_requested_one(self) -> None:
        options = ResponseOptions(JOB, "fast", asked={"service_tier": "auto"})

        assert response_object(options, "in_progress")["service_tier"] == "auto"
        assert response_object(options, "completed", service_tier="default")["service_tier"] == "default"


class TestAsked:
    @pytest.mark.parametrize("summary", ["auto", "concise", "detailed"])
    @pytest.mark.parametrize("name", ["summary", "generate_summary"])
    def test_a_summary_may_be_asked_for(self, name: str, summary: str) -> None:
        assert ResponseOptions(JOB, "fast", asked={"reasoning": {name: summary}}).wants_summary

    @pytest.mark.parametrize("asked", [{}, {"reasoning": None}, {"reasoning": {"effort": "low"}}, {"reasoning": "low"}])
    def test_a_summary_is_not_wanted_otherwise(self, asked: dict[str, Any]) -> None:
        assert not ResponseOptions(JOB, "fast", asked=asked).wants_summary

    def test_tools_that_the_input_added_are_not_shown(self) -> None:
        shown = response_object(ResponseOptions(JOB, "fast", asked={"tools": [], ADDITIONAL_TOOLS: [{}]}), "completed")

        assert ADDITIONAL_TOOLS not in shown
