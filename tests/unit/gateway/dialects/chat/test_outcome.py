"""Test the end of a job, as the completion dialects show it."""

from typing import Any

import pytest

from gateway.dialects.chat.outcome import finish_reasons, usage_of

COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(
    ("outcome", "seen", "reasons"),
    [
        ({"finish_reason": "stop", "finish_reasons": ["stop"]}, {0}, {0: "stop"}),
        ({"finish_reason": "stop", "finish_reasons": ["stop", "length"]}, {0}, {0: "stop", 1: "length"}),
        ({"finish_reason": "length", "finish_reasons": ["length", None]}, {2}, {0: "length", 1: "length", 2: "length"}),
        ({"finish_reason": None, "finish_reasons": None}, set(), {0: "stop"}),
    ],
    ids=str,
)
def test_each_choice_has_a_reason(outcome: dict[str, Any], seen: set[int], reasons: dict[int, str]) -> None:
    assert finish_reasons(outcome, seen) == reasons


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        (None, dict.fromkeys(COUNTS, 0)),
        (COUNTS | {"source": "provider"}, COUNTS),
        (COUNTS | {"source": "estimated"}, COUNTS | {"source": "estimated"}),
        (COUNTS | {"source": "partial"}, COUNTS | {"source": "partial"}),
        (
            COUNTS | {"cost": 0.1, "x_details": {"a": 1}, "source": "provider"},
            COUNTS | {"cost": 0.1, "x_details": {"a": 1}},
        ),
        (COUNTS | {"x_details": None}, COUNTS),
    ],
    ids=str,
)
def test_usage_has_the_counts_and_every_further_field(usage: dict[str, Any] | None, shown: dict[str, Any]) -> None:
    assert usage_of({"usage": usage}) == shown
