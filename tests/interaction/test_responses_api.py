"""Serve `/v1/responses` byte by byte: creation, reading with each key and from each cursor, and the end.

Not here: the events themselves (golden tests), the SDKs' view (tests/clients).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled, ProviderRefused, ProviderTimeout
from shared.model.jobs import KEPT
from tests.support.client import HEARTBEAT, TIMEOUT_S, Answer, Client, Response
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide, LogWriter

RESPONSES = "/v1/responses"
BODY: dict[str, Any] = {"model": "scripted", "input": "Hello?"}
STREAM = {**BODY, "stream": True}
BACKGROUND = {**BODY, "background": True}
BOTH = {**BACKGROUND, "stream": True}
BOB = "sk-bob"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Hold headers for longer than any test takes; a test that wants them earlier sets it."""
    return settings.model_copy(update={"headers_hold_s": 60.0, "heartbeat_s": 60.0, "retention_s": 3600.0})


def id_of(writer: LogWriter) -> str:
    return writer.job_id.replace("job_", "resp_")


def at(writer: LogWriter, rest: str = "") -> str:
    return f"{RESPONSES}/{id_of(writer)}{rest}"


def data_of(frame: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(frame.split(b"\n")[1].removeprefix(b"data: "))
    return decoded


def names(frames: list[bytes]) -> list[str]:
    return [data_of(frame)["type"].removeprefix("response.") for frame in frames]


async def all_frames(response: Response) -> list[bytes]:
    """Return the frames from here to a proper end."""
    frames = []
    while frame := await response.frame():
        frames.append(frame)
    assert response.complete
    return frames


async def created(client: Client, writing: JobSide, **fields: Any) -> LogWriter:
    """Return a background response that runs."""
    answer = await client.post(RESPONSES, {**BACKGROUND, **fields})
    assert answer.status == 200, answer.body
    writer = await writing.take()
    assert answer.json()["id"] == id_of(writer)
    return writer


async def answered(client: Client, writing: JobSide, *said: Any, **fields: Any) -> LogWriter:
    """Return a background response that is complete."""
    writer = await created(client, writing, **fields)
    await writer.say(*said)
    await writer.complete()
    return writer


@asynccontextmanager
async def streaming(client: Client, target: str, after: int | None = None) -> AsyncIterator[Response]:
    """Provide a stream of all events, or of those after a number."""
    query = "?stream=true" if after is None else f"?stream=true&starting_after={after}"
    async with client.stream("GET", target + query) as response:
        assert response.status == 200
        yield response


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return answer.status, error["code"], error["param"]


# In the foreground.


async def test_a_whole_response_comes_when_the_job_has_ended(client: Client, writing: JobSide) -> None:
    async with client.calling(RESPONSES, {**BODY, "instructions": "Be brief.", "metadata": {"a": "b"}}) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        assert call.nothing_came()
        await writer.complete()
        await call.read_head()
        answer = await call.whole()

    response = answer.json()
    assert (answer.status, answer.headers["x-tailrace-job"]) == (200, writer.job_id)
    assert (response["id"], response["status"], response["background"]) == (id_of(writer), "completed", False)
    assert response["output"][0]["content"][0]["text"] == "Hello there"
    assert (response["instructions"], response["metadata"]) == ("Be brief.", {"a": "b"})
    assert (await client.get(at(writer))).json() == response


async def test_the_provider_sees_a_chat_request_and_nothing_of_ours(client: Client, writing: JobSide) -> None:
    fields = {"instructions": "Be brief.", "store": True, "max_output_tokens": 20}
    writer = await created(client, writing, **fields)

    _, request = await writing.store.load_with_request(writer.job_id)

    assert request == {
        "model": "scripted",
        "max_completion_tokens": 20,
        "messages": [{"role": "system", "content": "Be brief."}, *PROMPT],
    }
    assert KEPT not in await writing.store.request(writer.job_id)


async def test_a_stream_holds_its_headers_until_the_answer_begins_and_ends_after_the_last_event(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        assert call.nothing_came()
        await writer.say("Hello")
        await call.read_head()
        assert call.headers["content-type"] == "text/event-stream"
        assert call.headers["x-tailrace-job"] == writer.job_id
        first = await call.frames(5)
        await writer.complete()
        rest = await all_frames(call)

    assert names(first) == ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert names(rest) == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [data_of(frame)["sequence_number"] for frame in first + rest] == list(range(9))


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_failure_before_the_answer_is_a_status(client: Client, writing: JobSide, body: dict[str, Any]) -> None:
    async with client.calling(RESPONSES, body) as call:
        writer = await writing.take()
        await writer.fail(ProviderRefused("There is no such model.", code="model_not_found", param="model"))
        await call.read_head()
        answer = await call.whole()

    assert error_of(answer) == (404, "model_not_found", "model")
    assert answer.headers["x-tailrace-job"] == writer.job_id
    retrieved = (await client.get(at(writer))).json()
    assert (retrieved["status"], retrieved["error"]["message"]) == ("failed", "There is no such model.")


async def test_a_failure_in_mid_answer_is_the_streams_last_event(client: Client, writing: JobSide) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.fail(ProviderTimeout("The provider was silent."))
        await call.read_head()
        frames = await all_frames(call)

    last = data_of(frames[-1])
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"] == (await client.get(at(writer))).json()


async def test_a_failure_after_headers_went_out_is_told_in_the_stream(settings: Settings, writing: JobSide) -> None:
    hasty = settings.model_copy(update={"headers_hold_s": 0.01})
    async with running_gateway(hasty) as gateway, gateway.client.calling(RESPONSES, STREAM) as call:
        await call.read_head()
        assert names([await call.frame()]) == ["created"]
        writer = await writing.take()
        await writer.fail(ProviderTimeout("The provider was silent."))
        assert names(await all_frames(call)) == ["in_progress", "failed"]


async def test_who_leaves_a_foreground_response_ends_it(client: Client, gateway: Gateway, writing: JobSide) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        pushed_on = (await writing.store.load(writer.job_id)).abandon_ms
    await until(lambda: gateway.services.hub.readers == [])
    await gateway.services.viewer_heartbeat.report()

    assert 0 < (await writing.store.load(writer.job_id)).abandon_ms < pushed_on
    answer = await client.post(at(writer, "/cancel"))
    assert error_of(answer) == (400, "invalid_request", None)


# In the background.


async def test_a_background_response_is_there_at_once_and_goes_through_its_statuses(
    client: Client, writing: JobSide
) -> None:
    answer = await client.post(RESPONSES, BACKGROUND)
    assert answer.status == 200
    target = f"{RESPONSES}/{answer.json()['id']}"
    statuses = [answer.json()["status"], (await client.get(target)).json()["status"]]
    writer = await writing.take()
    statuses.append((await client.get(target)).json()["status"])
    await writer.say("Hello")
    assert (await client.get(target)).json()["output"] == []
    await writer.complete("length")
    last = (await client.get(target)).json()

    assert [*statuses, last["status"]] == ["queued", "queued", "in_progress", "incomplete"]
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["output"][0]["content"][0]["text"] == "Hello"


async def test_who_leaves_a_background_stream_at_any_event_leaves_it_running_and_gets_the_rest(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, BOTH) as call:
        await call.read_head()
        seen = [await call.frame()]
        assert names(seen) == ["created"]
    await until(lambda: gateway.services.hub.readers == [])
    writer = await writing.take()
    await writer.say("Hello")
    async with streaming(client, at(writer), 0) as again:
        seen += await again.frames(4)
    await writer.say(" there")
    await writer.complete()
    async with streaming(client, at(writer), 4) as last:
        seen += await all_frames(last)
    async with streaming(client, at(writer)) as replay:
        assert await all_frames(replay) == seen

    assert (await writing.store.load(writer.job_id)).abandon_ms == 0
    assert data_of(seen[-1])["response"]["output"][0]["content"][0]["text"] == "Hello there"


async def test_headers_of_a_background_stream_go_out_at_once_and_its_failure_is_an_event(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, BOTH) as call:
        await call.read_head()
        assert names(await call.frames(2)) == ["created", "queued"]
        writer = await writing.take()
        await writer.fail(ProviderRefused("There is no such model.", code="model_not_found"))
        assert names(await all_frames(call)) == ["in_progress", "failed"]


async def test_two_readers_get_the_same_whether_it_was_created_as_a_stream_or_not(
    client: Client, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as one, streaming(client, at(writer)) as other:
        first = await one.frames(3)
        await writer.say("Hello")
        await writer.complete()
        assert first + await all_frames(one) == await all_frames(other)


@pytest.mark.parametrize("after", [9, 10, 10**14])
async def test_nothing_after_the_last_event_is_an_empty_stream_that_ends(
    client: Client, writing: JobSide, after: int
) -> None:
    writer = await answered(client, writing, "Hello")

    async with streaming(client, at(writer), after) as stream:
        assert await all_frames(stream) == []
        assert stream.heartbeats == 0


async def test_a_worker_that_is_lost_before_the_answer_began_is_not_noticed(client: Client, writing: JobSide) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        await stream.frames(3)
        writer = await writing.begin(writer.job_id)
        await writer.say("Hello")
        await writer.complete()
        assert names(await all_frames(stream))[-1] == "completed"


async def test_a_worker_that_is_lost_in_mid_answer_ends_the_stream_with_an_error_and_not_the_response(
    client: Client, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        await writer.say("Hel")
        writer = await writing.begin(writer.job_id)
        frames = await all_frames(stream)
    await writer.say("Good day")
    await writer.complete()

    assert names(frames)[-1] == "error"
    async with streaming(client, at(writer)) as replay:
        assert await all_frames(replay) == frames
    retrieved = (await client.get(at(writer))).json()
    assert (retrieved["status"], retrieved["output"][0]["content"][0]["text"]) == ("completed", "Good day")


async def test_the_same_idempotency_key_is_the_same_response(client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "one"}
    first = await client.post(RESPONSES, BACKGROUND, headers=key)
    again = await client.post(RESPONSES, BACKGROUND, headers=key)
    other = await client.post(RESPONSES, {**BACKGROUND, "input": "Hi"}, headers=key)

    assert first.json() == again.json()
    assert error_of(other)[:2] == (422, "idempotency_conflict")


# Cancel and delete.


async def test_cancelling_ends_open_streams_and_is_idempotent(client: Client, writing: JobSide) -> None:
    writer = await created(client, writing)
    await writer.say("Hel")
    async with streaming(client, at(writer)) as stream:
        await stream.frames(6)
        async with client.calling(at(writer, "/cancel"), None) as cancelling:
            await until_cancelling(writing, writer)
            assert (await client.get(at(writer))).json()["status"] == "cancelled"
            await writer.fail(Cancelled.because("cancelled"))
            await cancelling.read_head()
            answer = await cancelling.whole()
        frames = await all_frames(stream)
    again = await client.post(at(writer, "/cancel"))

    last = data_of(frames[-1])
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert answer.status == again.status == 200
    assert answer.json() == again.json() == last["response"] == (await client.get(at(writer))).json()
    assert answer.json()["output"][0]["content"][0]["text"] == "Hel"


async def until_cancelling(writing: JobSide, writer: LogWriter) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await writing.store.load(writer.job_id)).status.value != "cancelling":
            pass


async def test_a_response_that_waits_is_cancelled_at_once(client: Client) -> None:
    response = (await client.post(RESPONSES, BACKGROUND)).json()

    answer = await client.post(f"{RESPONSES}/{response['id']}/cancel")

    assert (answer.status, answer.json()["status"], answer.json()["output"]) == (200, "cancelled", [])


async def test_cancelling_what_is_complete_changes_nothing(client: Client, writing: JobSide) -> None:
    writer = await answered(client, writing, "Hello")

    answer = await client.post(at(writer, "/cancel"))

    assert (answer.status, answer.json()["status"]) == (200, "completed")


async def test_a_deleted_response_is_gone_in_every_dialect(client: Client, writing: JobSide) -> None:
    writer = await answered(client, writing, "Hello")

    answer = await client.request("DELETE", at(writer))

    assert (answer.status, answer.json()) == (200, {"id": id_of(writer), "object": "response", "deleted": True})
    assert await writing.client.keys(f"*{{{writer.job_id}}}*") == []  # the worker clears the queue's entry
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        gone = await client.request(method, at(writer, rest))
        assert error_of(gone)[:2] == (404, "response_not_found")
    assert (await client.get(f"/v1/jobs/{writer.job_id}")).status == 404


async def test_deleting_what_runs_hides_it_cancels_it_and_ends_its_streams(client: Client, writing: JobSide) -> None:
    writer = await created(client, writing)
    link = (await client.get(f"/v1/jobs/{writer.job_id}")).json()["links"]["events"]
    async with streaming(client, at(writer)) as stream:
        await stream.frames(3)
        assert (await client.request("DELETE", at(writer))).status == 200
        for target in (at(writer), f"/v1/jobs/{writer.job_id}", link):
            assert (await client.get(target)).status == 404
        assert (await client.get("/v1/jobs")).json()["data"] == []
        assert (await writing.store.load(writer.job_id)).status.value == "cancelling"
        await writer.fail(Cancelled.because("cancelled"))
        assert names(await all_frames(stream)) == ["incomplete"]
    for key in await writing.client.keys(f"*{{{writer.job_id}}}*"):
        assert 0 < await writing.client.pttl(key) <= 60_000


async def test_deleting_what_waits_takes_it_out_of_the_queue(client: Client, writing: JobSide) -> None:
    response = (await client.post(RESPONSES, BACKGROUND)).json()

    assert (await client.request("DELETE", f"{RESPONSES}/{response['id']}")).status == 200

    assert await writing.client.zcard(writing.keys.lane("default")) == 0
    assert (await client.get(f"{RESPONSES}/{response['id']}")).status == 404


@pytest.mark.parametrize("how", ["waits", "runs", "has ended"])
async def test_after_a_delete_its_idempotency_key_is_free_for_a_new_response(
    client: Client, writing: JobSide, how: str
) -> None:
    key = {"Idempotency-Key": "one"}
    first = (await client.post(RESPONSES, BACKGROUND, headers=key)).json()["id"]
    if how != "waits":
        writer = await writing.take()
        if how == "has ended":
            await writer.complete()
    await client.request("DELETE", f"{RESPONSES}/{first}")

    answers = await asyncio.gather(*(client.post(RESPONSES, BACKGROUND, headers=key) for _ in range(5)))

    (second,) = {answer.json()["id"] for answer in answers}
    assert second != first
    assert (await client.get(f"{RESPONSES}/{second}")).json()["status"] == "queued"
    assert (await client.get(f"{RESPONSES}/{first}")).status == 404
    assert [job["id"] for job in (await client.get("/v1/jobs")).json()["data"]] == [second.replace("resp_", "job_")]


# Tenants.


async def test_another_tenants_response_looks_like_none(client: Client, writing: JobSide) -> None:
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


# Conversations.


async def test_a_response_continues_where_the_previous_one_ended(client: Client, writing: JobSide) -> None:
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


async def test_only_a_stored_response_that_is_over_and_ones_own_can_be_continued_from(
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


async def test_wrong_methods_keys_and_addresses_are_told_in_openais_envelope(client: Client) -> None:
    assert error_of(await client.get(RESPONSES))[:2] == (405, "method_not_allowed")
    assert error_of(await client.get(RESPONSES + "/resp_1/nothing"))[:2] == (404, "not_found")
    assert error_of(await client.as_("sk-nobody").post(RESPONSES, BODY))[:2] == (401, "invalid_api_key")


async def test_a_draining_gateway_lets_readers_go_who_can_return_and_takes_no_more(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        *_, last = await stream.frames(3)
        gateway.services.draining = True
        (reader,) = gateway.services.hub.readers
        assert reader.resumable
        reader.break_off("This gateway is shutting down.")
        error = data_of(await stream.frame())
        assert (error["type"], error["code"]) == ("error", "unavailable")
        # The error is not part of the stream: the events behind the last one follow the error too.
        assert error["sequence_number"] == data_of(last)["sequence_number"]
        assert await stream.frame() == b""
        assert stream.complete is False
    for answer in (await client.post(RESPONSES, BODY), await client.get(at(writer, "?stream=true"))):
        assert error_of(answer)[:2] == (503, "draining")
    assert (await client.get(at(writer))).json()["status"] == "in_progress"


async def test_silent_streams_have_heartbeats(settings: Settings, writing: JobSide) -> None:
    async with running_gateway(settings.model_copy(update={"heartbeat_s": 0.05})) as gateway:
        writer = await created(gateway.client, writing)
        async with streaming(gateway.client, at(writer), 2) as stream:
            await stream.heartbeat()
            assert stream.sends[0] == HEARTBEAT
