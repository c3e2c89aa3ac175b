"""`/v1/models`: what can be asked for, from the settings or from what the workers last saw."""

from typing import Any

import pytest

from shared.catalogue import Catalogue
from shared.settings import Settings
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.scribe import Desk


async def names(client: Client) -> list[str]:
    answer = await client.get("/v1/models")
    assert answer.status == 200
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"object", "data"}
    assert body["object"] == "list"
    for model in body["data"]:
        assert model == {"id": model["id"], "object": "model", "created": 0, "owned_by": "tailrace"}
    return [model["id"] for model in body["data"]]


@pytest.fixture
async def catalogue(writing: Desk) -> Catalogue:
    """What the workers publish."""
    return Catalogue(writing.client, writing.keys)


async def test_before_any_worker_has_told_there_are_no_models(client: Client) -> None:
    assert await names(client) == []


async def test_the_models_that_the_workers_saw_are_listed(client: Client, catalogue: Catalogue) -> None:
    await catalogue.publish(["b", "a/b:c", "a"])
    assert await names(client) == ["a", "a/b:c", "b"]
    await catalogue.publish(["d"])
    assert await names(client) == ["d"]


async def test_where_the_settings_name_the_models_they_are_the_models(settings: Settings, catalogue: Catalogue) -> None:
    await catalogue.publish(["whatever"])
    async with running_gateway(settings.model_copy(update={"models": ("z", "y")})) as gateway:
        assert await names(gateway.client) == ["y", "z"]
        assert (await gateway.client.get("/v1/models/whatever")).status == 404


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", "a"),
        ("vendor/model-1", "vendor/model-1"),
        ("vendor/model-1", "vendor%2Fmodel-1"),
        ("a/b/c:latest", "a%2Fb%2Fc%3Alatest"),
        ("naïve model", "na%C3%AFve%20model"),
    ],
)
async def test_a_model_is_found_by_its_name_whatever_is_in_it(
    client: Client, catalogue: Catalogue, name: str, path: str
) -> None:
    await catalogue.publish([name])
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status == 200
    assert answer.json()["id"] == name


@pytest.mark.parametrize("path", ["b", "a/", "A", "%20", "a%00"])
async def test_a_model_that_is_not_there_is_told_in_openais_words(
    client: Client, catalogue: Catalogue, path: str
) -> None:
    await catalogue.publish(["a"])
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
