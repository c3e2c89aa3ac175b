"""What has been generated twice."""

from tests.support.meter import Meter


def test_a_token_that_was_generated_before_counts_twice_and_a_gap_in_time_does_not() -> None:
    meter = Meter()
    for number in (0, 1, 2, 3, 2, 3, 4, 0):
        meter.count("one", number)
    meter.count("another", 0)

    assert (meter.generated, meter.twice) == (9, 3)
