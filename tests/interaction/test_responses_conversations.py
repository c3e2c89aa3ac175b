"""Continue a response after an earlier one, and list what it was asked with.

Not here: tools and the state of an upstream (test_response_history.py).
"""

from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.log_writer import PROMPT, JobSide
from tests.support.responses_api import BOB, BODY, RESPONSES, answered, at, created, error_of, id_of
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings, retention_s=3600.0)


async def test_a_response_continues_after_the_previous_one(client: Client, writing: JobSide) -> None:
    call = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    first = await answered(client, writing, "I look.", {"tool_calls": [call]}, instructions="Be brief.")
    output = {"type": "function_call_output", "call_id": "call_a", "output": "42"}
    second = await answered(client, writing, "42.", input=[output], previous_response_id=id_of(first))
    third = await created(client, writing, input="Sure?", previous_response_id=id_of(second), instructions="Be kind.")

    said = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert (await writing.store.request(third.job_id))["messages"] == [
        {"role": "system", "content": "Be kind."},
        *PROMPT,
        {"role": "assistant", "content": "I look.", "tool_calls": [said]},
        {"role": "tool", "tool_call_id": "call_a", "content": "42"},
        {"role": "assistant", "content": "42."},
        {"role": "user", "content": "Sure?"},
    ]
    assert (await client.get(at(third))).json()["previous_response_id"] == id_of(second)


async def test_items_of_earlier_responses_may_be_referred_to(client: Client, writing: JobSide) -> None:
    first = await answered(client, writing, "Hello.")
    item_id = (await client.get(at(first))).json()["output"][0]["id"]
    items = [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": item_id}]

    second = await created(client, writing, input=items)
    refused = await client.as_(BOB).post(RESPONSES, {**BODY, "input": items})

    assert (await writing.store.request(second.job_id))["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
    assert error_of(refused) == (400, "invalid_request", "input[1].id")


async def test_a_response_continues_only_from_an_ended_and_stored_one_of_its_tenant(
    client: Client, writing: JobSide
) -> None:
    running = await created(client, writing)
    over = await answered(client, writing, "Hello")

    for caller, previous in ((client, id_of(running)), (client, "resp_1"), (client.as_(BOB), id_of(over))):
        answer = await caller.post(RESPONSES, {**BODY, "previous_response_id": previous})
        assert error_of(answer) == (400, "invalid_request", "previous_response_id")


async def test_a_conversation_may_not_outgrow_a_body(settings: Settings, writing: JobSide) -> None:
    async with running_gateway(settings.model_copy(update={"max_body_bytes": 1000})) as gateway:
        writer = await answered(gateway.client, writing, "x" * 900)
        answer = await gateway.client.post(RESPONSES, {**BODY, "previous_response_id": id_of(writer)})

    assert error_of(answer) == (400, "invalid_request", "previous_response_id")


async def test_input_items_come_in_pages_the_last_first(client: Client, writing: JobSide) -> None:
    said = [{"role": "user", "content": f"{n}"} for n in range(3)]
    writer = await created(client, writing, input=said, instructions="Be brief.")

    def texts(page: dict[str, Any]) -> list[str]:
        return [item["content"][0]["text"] for item in page["data"]]

    whole = (await client.get(at(writer, "/input_items"))).json()
    page = (await client.get(at(writer, "/input_items?order=asc&limit=2"))).json()
    rest = (await client.get(at(writer, f"/input_items?order=asc&limit=2&after={page['last_id']}"))).json()

    assert (texts(whole), whole["has_more"]) == (["2", "1", "0"], False)
    assert (texts(page), page["has_more"], page["object"]) == (["0", "1"], True, "list")
    assert (texts(rest), rest["has_more"], rest["first_id"]) == (["2"], False, whole["first_id"])
