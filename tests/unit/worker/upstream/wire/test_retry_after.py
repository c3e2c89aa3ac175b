"""Test the pause that an upstream asks for, in any notation."""

import pytest

from worker.upstream.wire.retry_after import RETRY_AFTER_MOST_S, retry_after_s

NOW = {"date": "Wed, 21 Oct 2026 07:28:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "x"}, 7.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", **NOW}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:30 GMT", **NOW}, 0.0),
    ],
)
def test_it_is_read_in_each_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "86400"},
        {"retry-after": "1e300"},
        {"retry-after": "inf"},
        {"retry-after-ms": "9999999999"},
        {"retry-after": "Wed, 21 Oct 2099 07:28:30 GMT", **NOW},
    ],
)
def test_a_pause_without_measure_is_an_hour(headers: dict[str, str]) -> None:
    assert retry_after_s(headers) == RETRY_AFTER_MOST_S
