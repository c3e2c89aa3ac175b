"""The plugin that conftest.py loads when several processes share the tests (pytest-xdist): schedule.py decides.

Not here: which tests stay together, and which begin.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.schedule import home_of, longest_first


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give each process a whole file or folder at a time, in the order of the collected tests."""
    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = home_of
    return scheduler


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest tests if several processes share them: else one would end long after the others."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)
