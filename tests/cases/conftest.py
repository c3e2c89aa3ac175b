"""The stage of a module, and a model of its own for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cases.everywhere import MODELS
from tests.cases.stage import ONCE, Stage, running_stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The system of a module; its environment names the gateway to the command line."""
    async with running_stage(redis_url, tmp_path_factory.mktemp("data")) as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TAILRACE_URL", running.url)
            patch.setenv("TAILRACE_API_KEY", "sk-alice")
            yield running


@pytest.fixture
def model() -> str:
    """Return a model for this test alone."""
    return MODELS["model"]()


@pytest.fixture
def once() -> str:
    """Return the same, of a model that is asked once."""
    return MODELS[ONCE]()
