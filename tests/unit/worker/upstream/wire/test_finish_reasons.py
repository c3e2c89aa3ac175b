"""Test finish reasons of many upstreams."""

import pytest

from shared.model.errors import ProviderGarbage
from worker.upstream.wire.finish_reasons import BrokenOff, finish_reason


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, None),
        ("", None),
        ("stop", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("function_call", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("FINISH_REASON_STOP", "stop"),
        ("out_of_ideas", "out_of_ideas"),
    ],
)
def test_a_finish_reason_is_translated_to_openais(said: object, meant: str | None) -> None:
    assert finish_reason(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        *("error", "abort", "ERROR", "network_error", "insufficient_system_resource"),
        *("cancelled", "canceled", "timeout", "failed"),
    ],
)
def test_a_reason_that_names_a_failure_is_one(said: str) -> None:
    with pytest.raises(BrokenOff, match=said):
        finish_reason(said)


@pytest.mark.parametrize("said", [{"why": "stop"}, 7, "x" * 65])
def test_a_reason_that_is_not_a_short_text_is_garbage(said: object) -> None:
    with pytest.raises(ProviderGarbage, match="not a string of up to 64 characters"):
        finish_reason(said)
