"""Refuse requests to `/v1/responses` in OpenAI's envelope, and show a response to its tenant only."""

import asyncio
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import TIMEOUT_S, Client
from tests.support.gateway import running_gateway
from tests.support.log_writer import PROMPT, JobSide
from tests.support.responses_api import (
    BOB,
    BODY,
    RESPONSES,
    all_frames,
    answered,
    at,
    data_of,
    error_of,
    names,
    streaming,
)
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings, retention_s=3600.0)


# Tenants.


async def test_another_tenants_response_answers_like_an_unknown_one(client: Client, writing: JobSide) -> None:
    writer = await answered(client, writing, "Hello")
    bob = client.as_(BOB)

    for method, rest in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("GET", "/input_items")):
        answer = await bob.request(method, at(writer, rest))
        assert error_of(answer)[:2] == (404, "response_not_found")
    assert (await bob.request("DELETE", at(writer))).status == 404
    assert (await client.get(at(writer))).status == 200


@pytest.mark.parametrize("response_id", ["resp_1", "job_01hf7yat000000000000000005", "resp_01hf7yat000000000000000005"])
async def test_an_unknown_id_is_a_404_in_openais_envelope(client: Client, response_id: str) -> None:
    answer = await client.get(f"{RESPONSES}/{response_id}")

    assert error_of(answer) == (404, "response_not_found", "response_id")
    assert response_id in answer.json()["error"]["message"]


async def test_a_response_that_is_not_to_be_stored_can_not_be_retrieved(client: Client, writing: JobSide) -> None:
    async with client.calling(RESPONSES, {**BODY, "store": False}) as call:
        writer = await writing.take()
        await writer.complete()
        await call.read_head()
        assert (await call.whole()).json()["store"] is False

    assert (await client.get(at(writer))).status == 404
    assert (await client.get(f"/v1/jobs/{writer.job_id}")).json()["status"] == "completed"


async def test_a_response_that_is_not_to_be_stored_is_soon_deleted_with_request_and_log(
    settings: Settings, writing: JobSide
) -> None:
    brief = settings.model_copy(update={"unstored_retention_s": 0.2})
    async with running_gateway(brief) as gateway:
        async with gateway.client.calling(RESPONSES, {**BODY, "store": False}) as call:
            writer = await writing.take()
            await writer.complete()
            await call.read_head()
        async with asyncio.timeout(TIMEOUT_S):
            while (await gateway.client.get(f"/v1/jobs/{writer.job_id}")).status != 404:
                pass
        assert (await gateway.client.get("/v1/jobs")).json()["data"] == []
    keys = writing.keys.job(writer.job_id)
    assert await writing.client.exists(keys.record, keys.request, keys.log, keys.result) == 0


async def test_a_job_of_another_dialect_can_be_read_as_a_response(client: Client, writing: JobSide) -> None:
    job = (await client.post("/v1/jobs", {"model": "scripted", "messages": PROMPT, "metadata": {"a": "b"}})).json()
    writer = await writing.take()
    async with streaming(client, at(writer)) as stream:
        assert names(await stream.frames(3)) == ["created", "queued", "in_progress"]
        await writer.say("Hello")
        await writer.complete()
        last = data_of((await all_frames(stream))[-1])["response"]

    assert writer.job_id == job["id"]
    assert last == (await client.get(at(writer))).json()
    assert (last["metadata"], last["background"], last["status"]) == ({"a": "b"}, True, "completed")
    assert (await client.get(at(writer, "/input_items"))).json()["data"][0]["content"][0]["text"] == "Hello?"


# Refusals.


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        ("?stream=yes", "stream"),
        ("?starting_after=1", "starting_after"),
        ("?stream=true&starting_after=x", "starting_after"),
        ("?stream=true&starting_after=-1", "starting_after"),
        ("?stream=true&starting_after=1000000000000000", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_1", "after"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(
    client: Client, writing: JobSide, rest: str, param: str
) -> None:
    writer = await answered(client, writing, "Hello")

    assert error_of(await client.get(at(writer, rest))) == (400, "invalid_request", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": 7}, "input"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"tailrace": {}}, "tailrace"),
        ({"background": True, "store": False}, "store"),
        ({"input": [{"type": "item_reference", "id": f"msg_{n:026}_0"} for n in range(33)]}, "input"),
    ],
    ids=["no model", "input", "tools", "metadata", "our name", "nowhere to read it", "too many references"],
)
async def test_a_bad_request_is_a_400_that_names_the_field(
    client: Client, writing: JobSide, fields: dict[str, Any], param: str
) -> None:
    answer = await client.post(RESPONSES, {**BODY, **fields})

    assert error_of(answer) == (400, "invalid_request", param)
    assert await writing.client.zcard(writing.keys.lane("default")) == 0


async def test_wrong_methods_keys_and_addresses_are_errors_in_openais_envelope(client: Client) -> None:
    assert error_of(await client.get(RESPONSES))[:2] == (405, "method_not_allowed")
    assert error_of(await client.get(RESPONSES + "/resp_1/nothing"))[:2] == (404, "not_found")
    assert error_of(await client.as_("sk-nobody").post(RESPONSES, BODY))[:2] == (401, "invalid_api_key")
