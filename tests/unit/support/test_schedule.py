"""Test the order in which processes take tests, and which of them stay together."""

from dataclasses import dataclass

import pytest

from tests.support.schedule import home_of, longest_first


@dataclass(frozen=True)
class Test:
    """Hold a collected test, and the duration that its marker states."""

    __test__ = False
    nodeid: str
    seconds: float = 0.0

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Return the marker that it has."""
        return pytest.mark.slow(self.seconds, "why").mark if name == "slow" and self.seconds else None


def test_tests_of_one_file_stay_together_and_clients_with_all_other_clients() -> None:
    assert home_of("tests/contract/hub/test_handoff.py::test_a[x::y]") == "tests/contract/hub/test_handoff.py"
    assert home_of("tests/clients/test_page.py::test_a") == home_of("tests/clients/test_curl.py::test_b")


def test_the_home_with_the_most_slow_seconds_begins_and_the_others_keep_their_order() -> None:
    quick, long = Test("tests/a.py::test_1"), Test("tests/b.py::test_1", 30)
    several = [Test("tests/c.py::test_1", 20), Test("tests/c.py::test_2"), Test("tests/c.py::test_3", 20)]

    assert longest_first([quick, long, *several]) == [*several, long, quick]
