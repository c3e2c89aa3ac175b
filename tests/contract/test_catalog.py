"""Test the models that the workers publish and the gateways offer."""

import pytest

from shared.model.bounds import MODELS
from shared.model.model_names import ModelListing
from shared.store.catalog import ModelCatalog
from tests.support.core import Core

HOSTILE = ("\x1b[2J", "a\nb", "a\u202eb", "\ud800", "x" * 10_000, "")


async def test_the_catalog_is_empty_and_incomplete_before_any_worker(core: Core) -> None:
    assert await ModelCatalog(core.client, core.keys).models() == []
    assert await ModelCatalog(core.client, core.keys).listing() == ModelListing((), complete=False)


async def test_the_last_published_list_counts_sorted_and_each_name_once(core: Core) -> None:
    catalog = ModelCatalog(core.client, core.keys)
    await catalog.publish(ModelListing(("old",), complete=True))

    await catalog.publish(ModelListing(("small", "größe/7b", "large", "small")))

    assert await catalog.listing() == (("größe/7b", "large", "small"), False)
    await catalog.publish(ModelListing((), complete=True))
    assert await catalog.listing() == ((), True)


async def test_names_that_could_harm_a_terminal_are_not_published(core: Core) -> None:
    catalog = ModelCatalog(core.client, core.keys)

    await catalog.publish(ModelListing(("good", *HOSTILE), complete=True))

    assert await catalog.listing() == (("good",), True)


async def test_not_more_are_published_than_the_bound_and_then_more_may_exist(core: Core) -> None:
    catalog = ModelCatalog(core.client, core.keys)

    await catalog.publish(ModelListing(tuple(f"model-{number}" for number in range(100_000)), complete=True))

    models, complete = await catalog.listing()
    assert (len(models), complete) == (MODELS, False)


async def test_the_models_of_a_stopped_fleet_expire(core: Core) -> None:
    await ModelCatalog(core.client, core.keys).publish(ModelListing(("a",)))

    assert 0 < await core.client.ttl(core.keys.models) <= 3600


@pytest.mark.parametrize("reported", ['["a", "b"]', "{}", '{"models": "a"}', "7"])
async def test_a_listing_that_another_version_published_is_ignored(core: Core, reported: str) -> None:
    await core.client.set(core.keys.models, reported)

    assert await ModelCatalog(core.client, core.keys).listing() == ModelListing()


async def test_names_are_looked_at_again_when_they_are_read(core: Core) -> None:
    await core.client.set(core.keys.models, '{"models": ["a", "\\u001b[2J", 7, null], "complete": 1}')

    assert await ModelCatalog(core.client, core.keys).listing() == (("a",), False)
