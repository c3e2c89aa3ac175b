"""The headers in which a caller asks something of Tailrace."""

from gateway.admission.request_options import (
    ABANDON_HEADER,
    DISCONNECT_HEADER,
    LANE_HEADER,
    STREAM_FAILURE_HEADER,
    Wishes,
)


def test_each_header_is_read_and_named_again() -> None:
    headers = {LANE_HEADER: "high", STREAM_FAILURE_HEADER: "fail", DISCONNECT_HEADER: "cancel", ABANDON_HEADER: "5"}

    wishes = Wishes.of({**headers, "Accept": "*/*"})

    assert wishes == Wishes("high", "fail", "cancel", "5")
    assert wishes.named() == headers


def test_a_header_that_is_missing_is_not_named() -> None:
    assert Wishes.of({LANE_HEADER: "high"}).named() == {LANE_HEADER: "high"}
