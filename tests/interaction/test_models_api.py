"""Serve `/v1/models`: the models to choose from, by the settings or by the workers' last list."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from gateway.admission.strict_models import StrictModels
from shared.config.settings import Settings
from shared.model.bounds import MODELS
from shared.model.errors import ModelNotFound, ProviderRefused
from shared.model.model_names import ModelListing
from shared.store.catalog import ModelCatalog
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide
from tests.support.system import System, ask, running_system, running_worker
from tests.support.upstream import running_upstream
from tests.unit.worker.execution.test_pump import ManualClock


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
async def catalog(writing: JobSide) -> ModelCatalog:
    """Return the list that the workers publish."""
    return ModelCatalog(writing.client, writing.keys)


async def test_the_list_of_models_is_empty_before_any_worker_has_published(client: Client) -> None:
    assert await names(client) == []


async def test_the_models_that_the_workers_saw_are_listed(client: Client, catalog: ModelCatalog) -> None:
    await catalog.publish(ModelListing(("b", "a/b:c", "a")))
    assert await names(client) == ["a", "a/b:c", "b"]
    await catalog.publish(ModelListing(("d",)))
    assert await names(client) == ["d"]


async def test_models_named_in_the_settings_are_the_models(settings: Settings, catalog: ModelCatalog) -> None:
    await catalog.publish(ModelListing(("whatever",), complete=True))
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
    client: Client, catalog: ModelCatalog, name: str, path: str
) -> None:
    await catalog.publish(ModelListing((name,)))
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status == 200
    assert answer.json()["id"] == name


@pytest.mark.parametrize("path", ["b", "a/", "A", "%20", "a%00"])
async def test_an_unknown_model_is_an_error_in_openais_envelope(
    client: Client, catalog: ModelCatalog, path: str
) -> None:
    await catalog.publish(ModelListing(("a",)))
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


# Names that an upstream should not have.

HOSTILE = [
    *("\x1b]0;owned\x07", "a\x1b[2Jb", "a\nb", "a\x00b", "a\x9bb", "a\u202egood", "a\u2066b", "half \ud800"),
    *("x" * 10_000, ""),
]


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


async def listed_by(system: System, data: list[Any]) -> list[str]:
    """Return the gateway's list once a worker has read this list from its upstream."""
    async with running_upstream() as upstream:
        upstream.models = {"object": "list", "data": data}
        settings = system.settings.model_copy(update={"upstream_url": upstream.base_url})
        async with system.commands() as seen, running_worker(settings):
            await seen(f"SET {system.core.keys.models}")
            return await names(system.client)


async def test_hostile_names_of_an_upstream_are_never_shown(system: System) -> None:
    data = [*({"id": name} for name in HOSTILE), {"id": 7}, {"id": ["a"]}, {"id": {"a": 1}}, None, "b", {}]

    assert await listed_by(system, [*data, {"id": "good"}]) == ["good"]
    for name in HOSTILE[:7]:
        answer = await system.client.get(f"/v1/models/{quote(name)}")
        assert answer.status == 404
        assert answer.json()["error"]["code"] in ("model_not_found", "not_found")  # no address has a line end
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", answer.body)


async def test_a_list_of_100_000_models_is_cut_to_the_bound(system: System) -> None:
    found = await listed_by(system, [{"id": f"m{number:06}"} for number in range(100_000)])

    assert found == [f"m{number:06}" for number in range(MODELS)]


@pytest.mark.parametrize("name", HOSTILE[:7], ids=ascii)
async def test_a_request_for_a_malformed_model_name_is_a_400(system: System, name: str) -> None:
    for path, body in (("/v1/jobs", ask(model=name)), ("/v1/chat/completions", ask(model=name))):
        answer = await system.client.post(path, body)
        assert answer.status == 400
        said = answer.json()
        error = said.get("error", said)
        assert error["param"] == "model"


# Strict models.

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/jobs", ask(model="other")),
    ("/v1/jobs", {"kind": "embeddings", "model": "other", "input": "x"}),
    ("/v1/chat/completions", ask(model="other")),
    ("/v1/embeddings", {"model": "other", "input": "x"}),
    ("/v1/responses", {"model": "other", "input": "x", "background": True}),
    ("/api/chat", {"id": "chat", "model": "other", "messages": [{"role": "user", "content": "Hello?"}]}),
]
ROUTED: dict[str, Any] = {"providers": {"one": {"base_url": "scripted:"}}}


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[Gateway]:
    """Start a gateway that takes only models that exist."""
    async with running_gateway(settings.model_copy(update={"strict_models": True})) as gateway:
        yield gateway


async def keys_of(writing: JobSide) -> set[bytes]:
    """Return all keys but the processes' metrics."""
    found: list[bytes] = await writing.client.keys(f"{writing.keys.prefix}:*")
    reported = (writing.keys.processes, writing.keys.metrics(""))
    return {key for key in found if not key.decode().startswith(reported)}


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_strict_models_refuse_an_unlisted_model_before_a_job_exists(
    strict: Gateway, writing: JobSide, catalog: ModelCatalog, path: str, body: dict[str, Any]
) -> None:
    await catalog.publish(ModelListing(("this",), complete=True))
    before = await keys_of(writing)

    answer = await strict.client.post(path, body)

    assert answer.status == 404
    assert b"'other' does not exist; GET /v1/models lists those that do." in answer.body
    if path != "/api/chat":  # which says a sentence
        said = answer.json()
        error = said.get("error", said)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert await keys_of(writing) == before


async def test_strict_models_accept_a_listed_model(strict: Gateway, catalog: ModelCatalog) -> None:
    await catalog.publish(ModelListing(("this",), complete=True))

    assert (await strict.client.post("/v1/jobs", ask(model="this"))).status == 202


@pytest.mark.parametrize(
    "listing", [None, ModelListing(("this",)), ModelListing()], ids=["none yet", "one is missing", "empty"]
)
async def test_no_model_is_refused_while_the_listing_is_incomplete(
    strict: Gateway, catalog: ModelCatalog, listing: ModelListing | None
) -> None:
    if listing is not None:
        await catalog.publish(listing)

    assert (await strict.client.post("/v1/jobs", ask(model="other"))).status == 202


async def test_a_new_listing_counts_after_a_second(catalog: ModelCatalog) -> None:
    clock = ManualClock()
    models = StrictModels(catalog, clock)
    await catalog.publish(ModelListing(("this",), complete=True))
    with pytest.raises(ModelNotFound):
        await models.check("other")
    await catalog.publish(ModelListing(("other",), complete=True))
    clock.now += 0.5
    await models.check("this")
    clock.now += 1
    await models.check("other")
    with pytest.raises(ModelNotFound, match="'this' does not exist"):
        await models.check("this")


async def test_unless_models_are_strict_any_name_is_taken(client: Client, catalog: ModelCatalog) -> None:
    await catalog.publish(ModelListing(("this",), complete=True))

    assert (await client.post("/v1/jobs", ask(model="other"))).status == 202


async def test_a_model_with_a_route_exists_whatever_is_listed(settings: Settings, catalog: ModelCatalog) -> None:
    routes = {"named": {"chain": ["one"]}, "*": {"chain": ["one"]}}
    routed = settings.model_copy(update={"strict_models": True})
    fields = routed.model_dump(exclude={"upstream_url", "models", "api_keys"})
    routed = Settings(**{**fields, **ROUTED, "routes": routes}).model_copy(update={"api_keys": settings.api_keys})
    async with running_system(routed) as system, system.commands() as seen, running_worker(routed):
        await seen(f"SET {system.core.keys.models}")
        assert await names(system.client) == ["named", "scripted"]
        for model, status in (("named", 202), ("scripted", 202), ("other", 404)):
            assert (await system.client.post("/v1/jobs", ask(model=model))).status == status, model


async def test_a_dead_letter_of_a_removed_model_is_not_requeued(settings: Settings, catalog: ModelCatalog) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await system.submit(model="gone")
        (await provider.call()).fail(ProviderRefused("Not that.", code="model_not_found"))
        await system.story(job_id)
    await catalog.publish(ModelListing(("this",), complete=True))

    async with running_gateway(settings.model_copy(update={"strict_models": True})) as gateway:
        answer = await gateway.client.as_("sk-root").post(f"/v1/dead-letters/{job_id}/requeue")

    assert (answer.status, answer.json()["code"]) == (404, "model_not_found")
