"""Test the headers in which a caller sends options to Tailrace."""

from gateway.specs.request_options import (
    ABANDON_HEADER,
    DISCONNECT_HEADER,
    LANE_HEADER,
    STREAM_FAILURE_HEADER,
    RequestOptions,
)


def test_each_header_is_read_and_named_again() -> None:
    headers = {LANE_HEADER: "high", STREAM_FAILURE_HEADER: "fail", DISCONNECT_HEADER: "cancel", ABANDON_HEADER: "5"}

    options = RequestOptions.of({**headers, "Accept": "*/*"})

    assert options == RequestOptions("high", "fail", "cancel", "5")
    assert options.named() == headers


def test_a_header_that_is_missing_is_not_named() -> None:
    assert RequestOptions.of({LANE_HEADER: "high"}).named() == {LANE_HEADER: "high"}
