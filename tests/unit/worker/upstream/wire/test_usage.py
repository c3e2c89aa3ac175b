"""Test the usage that an upstream counted."""

from typing import Any

import pytest

from shared.model.bounds import USAGE_BYTES, USAGE_FIELDS
from shared.model.jobs import Usage
from worker.upstream.wire.usage import read_usage

COUNTS = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_counts_are_the_providers() -> None:
    assert read_usage(COUNTS) == Usage(3, 5, "provider")


def test_counts_may_have_the_names_of_responses() -> None:
    read = read_usage({"input_tokens": 3, "output_tokens": 5})
    assert read is not None and (read.prompt_tokens, read.completion_tokens) == (3, 5)


def test_further_fields_are_kept() -> None:
    further = {"cost": 0.001, "prompt_cache_hit_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}
    read = read_usage({**COUNTS, **further, "queue_time": None, "source": "theirs"})
    assert read == Usage(3, 5, "provider", further)


def test_further_fields_are_bounded() -> None:
    many = {f"x{n}": n for n in range(100)}
    read = read_usage({**COUNTS, "large": "x" * USAGE_BYTES, **many})
    assert read is not None and read.details == dict(list(many.items())[:USAGE_FIELDS])


def test_a_number_that_json_has_no_word_for_is_null() -> None:
    assert read_usage({**COUNTS, "cost": float("nan")}) == Usage(3, 5, "provider", {"cost": None})


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": 3},
        {**COUNTS, "prompt_tokens": "3"},
        {**COUNTS, "completion_tokens": True},
        {**COUNTS, "completion_tokens": -1},
        {**COUNTS, "completion_tokens": 2**54},
    ],
)
def test_a_usage_without_counts_is_ignored(usage: dict[str, Any]) -> None:
    assert read_usage(usage) is None
