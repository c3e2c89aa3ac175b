"""Test tasks through gateway and worker: submit, poll, wait for the end, cancel."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.events import EventType
from tests.support.client import Answer
from tests.support.controlled_provider import MODEL, ControlledProvider
from tests.support.system import System, ask, running_system, running_worker

CHAT, EMBEDDINGS = "/tasks/chat/completions", "/tasks/embeddings"


@pytest.fixture
def provider() -> ControlledProvider:
    return ControlledProvider()


@pytest.fixture
async def system(settings: Settings, provider: ControlledProvider) -> AsyncIterator[System]:
    """Start a gateway, and a worker of a provider that the test controls."""
    async with running_system(settings) as running, running_worker(settings, provider):
        yield running


async def submit(
    system: System, path: str = CHAT, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> str:
    """Submit a task; return its address."""
    answer = await system.client.request("POST", path, json_body=body or ask(), headers=headers or {})
    assert answer.status == 202, answer.body
    return answer.headers["location"]


async def poll(system: System, address: str, wait: int = 0) -> dict[str, Any]:
    answer = await system.client.get(f"{address}?wait={wait}" if wait else address)
    assert answer.status == 200, answer.body
    task: dict[str, Any] = answer.json()
    return task


def refused(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.json().get("param")


async def test_a_chat_is_pending_then_started_then_running_then_a_success(
    settings: Settings, provider: ControlledProvider
) -> None:
    async with running_system(settings) as system:
        answer = await system.client.post(CHAT, ask())
        address = answer.headers["location"]
        assert (answer.status, answer.json()["status"], answer.headers["retry-after"]) == (202, "PENDING", "1")
        assert address == f"/tasks/{answer.json()['task_id']}"
        async with running_worker(settings, provider):
            call = await provider.call()
            await system.until(answer.json()["task_id"], EventType.STARTED)
            assert (await poll(system, address))["status"] == "STARTED"
            call.say("Hello")
            await system.until(answer.json()["task_id"], EventType.DELTA)
            assert (await poll(system, address))["status"] == "RUNNING"
            call.say(" world")
            call.end()
            task = await poll(system, address, wait=20)

    assert task["status"] == "SUCCESS"
    assert task["progress"]["percent"] == 100
    assert task["result"]["object"] == "chat.completion"
    assert task["result"]["choices"][0]["message"]["content"] == "Hello world"
    assert task["error"] is None


async def test_a_waiting_poll_is_answered_at_the_end_and_another_one_at_once(
    system: System, provider: ControlledProvider
) -> None:
    address = await submit(system)
    call = await provider.call()
    waiting = asyncio.create_task(system.client.get(f"{address}?wait=60"))
    assert (await poll(system, address))["result"] is None
    await asyncio.sleep(0)
    assert not waiting.done()
    call.end()

    async with asyncio.timeout(5):
        answer = await waiting
    assert answer.json()["status"] == "SUCCESS"
    assert "retry-after" not in answer.headers


async def test_a_poll_waits_no_longer_than_it_says(system: System, provider: ControlledProvider) -> None:
    address = await submit(system)
    await provider.call()

    answer = await system.client.get(f"{address}?wait=1")

    assert (answer.status, answer.headers["retry-after"]) == (200, "1")
    assert answer.json()["status"] in ("STARTED", "PENDING")


async def test_embeddings_are_a_list_within_their_task(system: System, provider: ControlledProvider) -> None:
    address = await submit(system, EMBEDDINGS, {"model": MODEL, "input": ["one", "two"]})
    (await provider.call()).embed()

    task = await poll(system, address, wait=20)

    assert (task["status"], task["progress"]["message"]) == ("SUCCESS", "2 of 2 inputs")
    assert [each["index"] for each in task["result"]["data"]] == [0, 1]


@pytest.mark.parametrize(("text", "status"), [((), "FAILURE"), (("Hel", "lo"), "PARTIAL_SUCCESS")])
async def test_a_chat_that_fails_shows_its_text_so_far(
    system: System, provider: ControlledProvider, text: tuple[str, ...], status: str
) -> None:
    address = await submit(system, headers={"x-tailrace-on-stream-failure": "fail"})
    call = await provider.call()
    call.say(*text)
    call.fail(ProviderRefused("No money.", code="insufficient_quota"))

    task = await poll(system, address, wait=20)

    assert task["status"] == status
    assert task["error"]["code"] == "insufficient_quota"
    message = {"role": "assistant", "content": "".join(text)}
    assert task["result"] == ({"choices": [{"index": 0, "message": message, "finish_reason": None}]} if text else None)


async def test_a_cancelled_task_stops_its_provider_and_can_be_cancelled_again(
    system: System, provider: ControlledProvider
) -> None:
    address = await submit(system)
    call = await provider.call()

    for _ in range(2):
        answer = await system.client.post(f"{address}/cancel")
        assert (answer.status, answer.json()["status"]) == (200, "CANCELLED")
    await call.until_closed()
    assert (await poll(system, address))["error"]["code"] == "cancelled"


async def test_a_large_request_that_is_cancelled_can_still_be_polled(
    system: System, provider: ControlledProvider
) -> None:
    address = await submit(system, body=ask("a" * 40_000))
    await provider.call()
    await system.client.post(f"{address}/cancel")

    assert (await poll(system, address))["status"] == "CANCELLED"


async def test_a_task_outlives_its_callers(system: System, provider: ControlledProvider) -> None:
    address = await submit(system)
    call = await provider.call()

    job = (await system.client.get(f"/v1/jobs/{address.removeprefix('/tasks/')}")).json()
    assert (job["on_disconnect"], job["viewers"]) == ("continue", 0)
    assert not call.closed


async def test_an_idempotency_key_makes_one_task(system: System) -> None:
    first = await submit(system, headers={"idempotency-key": "k"})

    assert await submit(system, headers={"idempotency-key": "k"}) == first


async def test_a_kind_is_named_in_the_query_or_by_the_setting(settings: Settings, provider: ControlledProvider) -> None:
    changed = settings.model_copy(update={"tasks_kind": "chat"})
    async with running_system(changed) as system:
        by_setting = await system.client.post("/tasks", ask())
        by_query = await system.client.post("/tasks?kind=embeddings", {"model": MODEL, "input": "a"})

    assert (by_setting.json()["kind"], by_query.json()["kind"]) == ("chat", "embeddings")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tasks", ask(), "kind"),
        ("/tasks?kind=video", ask(), "kind"),
        (CHAT, {"model": MODEL}, "messages"),
        (EMBEDDINGS, {"model": MODEL, "input": []}, "input"),
    ],
)
async def test_a_bad_task_is_refused_by_its_field(system: System, path: str, body: dict[str, Any], param: str) -> None:
    assert refused(await system.client.post(path, body)) == (400, param)
    assert json.loads((await system.client.get("/v1/jobs")).body)["data"] == []


@pytest.mark.parametrize("wait", ["-1", "61", "abc", "1.5", "0000000000000060", ""])
async def test_a_bad_wait_is_refused(system: System, wait: str) -> None:
    address = await submit(system)

    assert refused(await system.client.get(f"{address}?wait={wait}")) == (400, "wait")


async def test_another_tenants_task_does_not_exist(system: System) -> None:
    address = await submit(system)

    answer = await system.client.as_("sk-bob").get(address)

    assert answer.status == 404
    assert address.removeprefix("/tasks/") in answer.json()["detail"]
