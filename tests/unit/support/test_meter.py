"""Test the count of tokens that were generated twice."""

from tests.support.meter import Meter


def test_repeated_tokens_count_for_the_call_that_generates_them_again() -> None:
    meter = Meter()
    for began, numbers in ((1.0, (0, 1, 2, 3)), (2.0, (2, 3, 4)), (3.0, (0, 1))):
        for number in numbers:
            meter.count("one", number, began)
    meter.count("another", 0, 4.0)

    assert (meter.generated, meter.twice) == (10, 4)
    assert meter.as_dict()["twice_at"] == [(2.0, 2), (3.0, 2)]
