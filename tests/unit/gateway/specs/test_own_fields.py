"""Test the fields that belong to Tailrace: near misses are named with the right spelling, all other names pass."""

from typing import Any

import pytest

from gateway.specs.own_fields import OWN_FIELDS, check_foreign, check_native, nearest
from shared.model.errors import InvalidRequest
from tests.support.known_fields import KNOWN_FIELDS

NATIVE = {
    "kind": ["Kind", "kinds", "knid"],
    "lane": ["lanes", "Lane", "lan", "lnae", "lanne", "x_lane", "tailrace_lane", "X-Tailrace-Lane", "tailraceLane"],
    "timeout_s": [
        *("timeout", "timeout_ms", "timeoutS", "timeoutMs", "time_out", "time_out_s", "timeouts", "timout_s"),
        *("timeout_sec", "timeout_seconds", "timeout_in_seconds", "TIMEOUT_S", "timeout-s", "tiemout_s", "timeout_h"),
    ],
    "metadata": ["meta_data", "metaData", "metadatas", "metdata", "Metadata", "meta-data", "metadat"],
    "on_disconnect": [
        *("onDisconnect", "ondisconnect", "on_disconect", "disconnect", "on-disconnect", "on_disconnected"),
        "X-Tailrace-On-Disconnect",
    ],
    "abandon_after_s": [
        *("abandon_after", "abandonAfterS", "abandonAfter", "abandon_after_ms", "abandone_after_s", "abandonafter"),
        *("abandon_after_seconds", "X-Tailrace-Abandon-After"),
    ],
    "on_stream_failure": [
        *("on_stream_failures", "onStreamFailure", "stream_failure", "on_stream_faliure", "on_steam_failure"),
        "x-tailrace-on-stream-failure",
    ],
    "idempotency_key": ["idempotency_key", "idempotencyKey", "Idempotency-Key", "idempotence_key"],
}
MISSES = [(own, name) for own, names in NATIVE.items() for name in names]
HEADERS = {
    "lane": "X-Tailrace-Lane",
    "on_disconnect": "X-Tailrace-On-Disconnect",
    "abandon_after_s": "X-Tailrace-Abandon-After",
    "on_stream_failure": "X-Tailrace-On-Stream-Failure",
    "idempotency_key": "Idempotency-Key",
}


def refusal(check: Any, name: str, value: object = "x") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check({"model": "m", name: value})
    assert caught.value.param == name
    return caught.value


@pytest.mark.parametrize(("own", "name"), MISSES)
def test_a_near_miss_in_a_job_is_named_with_the_right_spelling(own: str, name: str) -> None:
    if own in HEADERS and own not in OWN_FIELDS:
        assert str(refusal(check_native, name)) == f"{name} must be sent as the header {HEADERS[own]}."
    else:
        assert str(refusal(check_native, name)) == f"{name} is not a field of a job; use {own}."


@pytest.mark.parametrize(("own", "name"), [*MISSES, *((own, own) for own in OWN_FIELDS)])
def test_a_body_of_openais_is_answered_with_the_header(own: str, name: str) -> None:
    if own == "metadata" or name == "timeout":  # OpenAI's own, and LiteLLM's
        check_foreign({name: "x"})
    elif own in HEADERS:
        assert str(refusal(check_foreign, name)) == f"{name} must be sent as the header {HEADERS[own]}."
    else:
        assert str(refusal(check_foreign, name)) == f"{name} belongs to POST /v1/jobs; leave it out here."


@pytest.mark.parametrize("name", KNOWN_FIELDS)
def test_fields_that_others_know_pass(name: str) -> None:
    check_foreign({name: "x"})
    if name != "timeout":
        check_native({name: "x"})


def test_the_own_fields_of_a_job_pass() -> None:
    check_native(dict.fromkeys(OWN_FIELDS, "x"))


def test_null_counts_as_absent() -> None:
    check_native({"lanes": None})
    check_foreign({"lane": None, "timeout_ms": None})


def test_a_body_of_very_many_names_is_answered_all_the_same() -> None:
    many = {f"field{number}": 1 for number in range(1000)}
    with pytest.raises(InvalidRequest, match=r"^lane must"):
        check_foreign({**many, "lane": "low"})
    check_foreign({**many, "lanes": "low"})  # so many names are not compared


@pytest.mark.parametrize("name", ["", "_", "日本", "\x00", "l", "x" * 41, "lane" * 11, "on", "s", "x_s", "tailrace"])
def test_names_without_resemblance_have_no_nearest_field(name: str) -> None:
    assert nearest(name, OWN_FIELDS) is None
