"""Test the configurations that a worker refuses to start with."""

from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import StartupError
from tests.support.processes import Processes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"upstream_url": None}, "No upstream is configured: set TAILRACE_UPSTREAM_URL"),
        ({"upstream_url": "nowhere"}, "upstream"),
        ({"redis_url": None}, "TAILRACE_REDIS_URL is not set"),
        ({"redis_url": "redis://127.0.0.1:1"}, "Redis does not answer"),
    ],
    ids=["upstream", "bad upstream", "redis", "bad redis"],
)
async def test_a_worker_that_cannot_work_says_why_and_its_exit_status_is_2(
    settings: Settings, changes: dict[str, Any], sentence: str
) -> None:
    async with Processes(settings) as processes:
        with pytest.raises(StartupError) as refused:
            await processes.worker(**changes)

    assert "(exit status 2)" in str(refused.value)
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)
