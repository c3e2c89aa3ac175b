"""The stage of a module, and a model of its own for each test."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from tests.cases.dialects import DIALECTS, Dialect
from tests.cases.stage import CHAIN, ONCE, ROUTES, Stage, running_stage

_numbers = count()


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
    """A model for this test alone: it has a circuit and answers of its own."""
    return f"model-{next(_numbers)}"


@pytest.fixture
def once() -> str:
    """The same, of a model that is asked once."""
    return f"{ONCE}-{next(_numbers) % ROUTES}"


@pytest.fixture
def chain() -> str:
    """The same, of a model that has a second provider."""
    return f"{CHAIN}-{next(_numbers) % ROUTES}"


@pytest.fixture(params=DIALECTS, ids=[each.name for each in DIALECTS])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Each dialect in turn."""
    each: Dialect = request.param
    return each
