"""Distribute the tests over several processes (`pytest -n 3`): neighbours stay together, and the longest begin.

The tests of one file share its fixtures. All tests of clients share servers, a browser and installed packages.
Not here: how many processes there are (Makefile).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import pytest

_TOGETHER = {"tests/clients/": 250.0}
"""Folders whose tests share their servers, and how long all of them take (s)."""


class Item(Protocol):
    """The part of a pytest item that is read."""

    @property
    def nodeid(self) -> str:
        """Path and name."""
        ...

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Return the innermost marker of this name."""
        ...


def home_of(nodeid: str) -> str:
    """Return the folder or file with tests that run in one process."""
    file = nodeid.split("::", 1)[0]
    return next((folder for folder in _TOGETHER if file.startswith(folder)), file)


def seconds_of(item: Item) -> float:
    """Return how long its marker `slow` says that a test takes; 0 without one."""
    marker = item.get_closest_marker("slow")
    return float(marker.args[0]) if marker else 0.0


AnyItem = TypeVar("AnyItem", bound=Item)


def longest_first(items: Sequence[AnyItem]) -> list[AnyItem]:
    """Return the tests in another order: homes with the most seconds of slow tests first, the others as they were."""
    seconds = defaultdict[str, float](float, _TOGETHER)
    for item in items:
        seconds[home_of(item.nodeid)] += seconds_of(item)
    return sorted(items, key=lambda item: -seconds[home_of(item.nodeid)])
