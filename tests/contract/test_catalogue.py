"""The models that the workers publish and the gateways offer."""

from shared.catalogue import Catalogue
from tests.support.core import Core


async def test_before_any_worker_there_are_no_models(core: Core) -> None:
    assert await Catalogue(core.client, core.keys).models() == []


async def test_the_last_published_list_counts_sorted_and_each_name_once(core: Core) -> None:
    catalogue = Catalogue(core.client, core.keys)
    await catalogue.publish(["old"])

    await catalogue.publish(["small", "größe/7b", "large", "small"])

    assert await catalogue.models() == ["größe/7b", "large", "small"]
    await catalogue.publish([])
    assert await catalogue.models() == []


async def test_models_of_a_fleet_that_is_gone_are_forgotten(core: Core) -> None:
    await Catalogue(core.client, core.keys).publish(["a"])

    assert 0 < await core.client.ttl(core.keys.models) <= 3600
