"""Test the stream of a workflow: the events of all steps, resumed anywhere without a gap or a repeat."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.docs import ROOT
from tests.support.gateway import running_gateway
from tests.support.system import System, ask, running_system, running_worker

NAMES = ["a", "b", "last"]
STEPS = {
    "last": ask("{{a}} {{b}}", model="last", after=["a", "b"]),
    "a": ask(model="a"),
    "b": ask(model="b"),
}


class Event(NamedTuple):
    """A decoded frame."""

    type: str
    data: Any
    id: str


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway without a worker."""
    async with running_system(settings) as opened:
        yield opened


def decode(frame: bytes) -> Event:
    lines = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
    return Event(lines["event"], json.loads(lines["data"]), lines.get("id", ""))


def answered(call: Call) -> None:
    """Answer a call in two deltas."""
    call.say(f"<{call.model}", ">")
    call.end()


async def submit(system: System, steps: dict[str, Any] = STEPS) -> dict[str, Any]:
    answer = await system.client.post("/v1/workflows", {"steps": steps})
    assert answer.status == 202, answer.body
    shown: dict[str, Any] = answer.json()
    return shown


async def read(client: Client, workflow: dict[str, Any], cursor: str = "", count: int = 10**6) -> list[Event]:
    """Return up to `count` events after the cursor, and disconnect."""
    headers = {"Last-Event-ID": cursor} if cursor else {}
    got: list[Event] = []
    async with client.stream("GET", f"/v1/workflows/{workflow['id']}/events", headers=headers) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.headers["x-tailrace-workflow"] == workflow["id"]
        while len(got) < count and (frame := await stream.frame()):
            got.append(decode(frame))
        assert len(got) == count or stream.complete
    return got


async def logs(system: System, workflow: dict[str, Any]) -> dict[str, list[tuple[str, str, Any]]]:
    """Return the events of each step's own stream, once it has ended."""
    stories = {name: await system.story(job["id"]) for name, job in workflow["steps"].items()}
    return {name: [(each.type, str(each.id), each.json()) for each in story.events] for name, story in stories.items()}


def by_step(events: list[Event]) -> dict[str, list[tuple[str, str, Any]]]:
    found: dict[str, list[tuple[str, str, Any]]] = {}
    for event in events:
        found.setdefault(event.data["step"], []).append((event.type, event.data["id"], event.data["data"]))
    return found


async def test_a_reader_from_the_start_gets_the_events_of_each_step_live_and_the_end(system: System) -> None:
    workflow = await submit(system)
    async with running_worker(system.settings, ControlledProvider(answered)):
        *events, ended = await read(system.client, workflow)

    assert (ended.type, ended.id) == ("ended", "end")
    assert ended.data == {"workflow": workflow["id"], "status": "completed"}
    assert by_step(events) == await logs(system, workflow)


async def test_a_reader_that_disconnects_after_each_event_misses_and_repeats_nothing(system: System) -> None:
    workflow = await submit(system)
    got: list[Event] = []
    async with running_worker(system.settings, ControlledProvider(answered)):
        while not got or got[-1].type != "ended":
            got += await read(system.client, workflow, got[-1].id if got else "", count=1)

    assert by_step(got[:-1]) == await logs(system, workflow)
    assert len({event.id for event in got}) == len(got)


async def test_nothing_follows_the_end(system: System) -> None:
    workflow = await submit(system)
    address = f"/v1/workflows/{workflow['id']}/events"
    await system.client.post(f"/v1/workflows/{workflow['id']}/cancel")

    *events, ended = await read(system.client, workflow)
    assert (ended.data["status"], {event.type for event in events}) == ("cancelled", {"queued", "cancelled"})
    # Between the last step's end and the end of the workflow.
    assert [each.type for each in await read(system.client, workflow, events[-1].id)] == ["ended"]
    assert (await system.client.get(f"{address}?last_event_id=end")).status == 204


async def test_a_step_that_is_not_stored_any_more_is_a_gap(system: System) -> None:
    workflow = await submit(system)
    await system.client.post(f"/v1/workflows/{workflow['id']}/cancel")
    await system.core.client.delete(system.core.keys.job(workflow["steps"]["b"]["id"]).record)

    events = await read(system.client, workflow)

    assert [(each.type, each.data["data"]) for each in events[:-1] if each.data["step"] == "b"] == [("gap", None)]
    assert events[-1].type == "ended"


async def test_the_link_opens_the_stream_without_a_key_and_no_other_one(system: System) -> None:
    workflow, other = await submit(system), await submit(system)
    for each in (workflow, other):
        await system.client.post(f"/v1/workflows/{each['id']}/cancel")
    nobody, link = system.client.as_(None), workflow["links"]["events"]

    assert (await nobody.get(link)).status == 200
    assert (await nobody.get(link.replace(workflow["id"], other["id"]))).status == 401
    assert (await nobody.get(link.partition("?")[0])).status == 401
    assert (await system.client.as_("sk-bob").get(link.partition("?")[0])).status == 404
    assert (await system.client.request("HEAD", link)).status == 200


@pytest.mark.parametrize("cursor", ["1-1", "nonsense", "2*x"])
async def test_a_cursor_of_another_stream_is_a_400(system: System, cursor: str) -> None:
    workflow = await submit(system)

    answer = await system.client.get(f"/v1/workflows/{workflow['id']}/events?last_event_id={cursor}")

    assert (answer.status, answer.json()["param"]) == (400, "last_event_id")


async def test_a_gateway_that_drains_breaks_the_stream_off_and_another_one_resumes_it(system: System) -> None:
    workflow = await submit(system)
    async with (
        running_gateway(system.settings) as second,
        second.client.stream("GET", f"/v1/workflows/{workflow['id']}/events") as stream,
    ):
        got = [decode(await stream.frame()) for _ in NAMES]
        for reader in second.services.hub.readers:
            reader.break_off("The gateway drains.")
        rest = await stream.rest()
    assert (rest.startswith(b"retry: "), stream.complete) == (True, False)
    async with running_worker(system.settings, ControlledProvider(answered)):
        got += await read(system.client, workflow, got[-1].id)

    assert by_step(got[:-1]) == await logs(system, workflow)


async def test_a_silent_workflow_has_the_heartbeats_of_one_stream(system: System) -> None:
    workflow = await submit(system)
    async with system.client.stream("GET", f"/v1/workflows/{workflow['id']}/events") as stream:
        await stream.frames(len(NAMES))
        readers = system.gateway.services.hub.readers
        for reader in readers:
            reader.send_heartbeat()
        await stream.heartbeat()
        await system.client.post(f"/v1/workflows/{workflow['id']}/cancel")
        rest = await stream.rest()

    assert len(readers) == len(NAMES)
    assert (rest.count(b": hb\n"), rest.endswith(b"id: end\n\n")) == (0, True)


async def test_the_readers_of_a_stream_leave_with_its_client(system: System) -> None:
    workflow = await submit(system)
    await read(system.client, workflow, count=2)

    await system.gateway.services.hub.emptied()


def says_words(call: Call) -> None:
    call.say("words")
    call.end()


async def test_the_example_of_the_documentation_runs_as_written(system: System) -> None:
    section = (ROOT / "gateway" / "README.md").read_text("utf-8").partition("## Workflows\n")[2].partition("\n## ")[0]
    body = json.loads(section.partition("```json\n")[2].partition("```")[0])
    provider = ControlledProvider(says_words)
    async with running_worker(system.settings, provider):
        workflow = await submit(system, body["steps"])
        events = await read(system.client, workflow)

    assert (events[-1].data["status"], set(workflow["steps"])) == ("completed", {"outline", "style", "text"})
    assert provider.calls[-1].request["messages"][0]["content"] == "Write words, words."
    shown = section.partition("```\nevent: ")[2].partition("```")[0]
    example = decode(b"event: " + shown.encode())
    assert example.data.keys() == events[0].data.keys()
    assert example.id.count(".") == events[0].id.count(".") + events[0].id.count("*")
