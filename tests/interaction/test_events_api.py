"""`GET /v1/jobs/{id}/events` over real sockets: the bytes, the cursors, the links, and how a stream may end."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.streams import hub as hub_module
from shared.config.settings import Settings
from shared.model.events import Event, EventType, decode_frame, split_frames
from tests.support.client import TIMEOUT_S, Answer, Client, Response
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide, LogWriter, job_side
from tests.support.valkey import running_valkey

RETRY = re.compile(rb"retry: \d{3,4}\n\n")


@pytest.fixture
async def running(writing: JobSide) -> LogWriter:
    """Return a job of Alice's that runs and has said `a b c d` in one entry: 0-1, 1-1, 1-2 to 1-5."""
    writer = await writing.started()
    await writer.say("a", "b", "c", "d")
    return writer


@pytest.fixture
async def finished(running: LogWriter) -> LogWriter:
    """Return the same, completed with 1-6."""
    await running.complete()
    return running


def address(job_id: str, **query: str) -> str:
    return f"/v1/jobs/{job_id}/events" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


async def events(client: Client, writer: LogWriter, cursor: str | None = None) -> list[Event]:
    """Return the events that a reader with this cursor gets of a job that has ended."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    async with client.stream("GET", address(writer.job_id), headers=headers) as stream:
        assert stream.status == 200
        got = await stream.events()
        assert stream.complete
    return got


def ids(got: list[Event]) -> list[str]:
    return [str(event.id) for event in got]


# The bytes.


async def test_the_headers_are_exactly_what_every_reader_can_bear(client: Client, running: LogWriter) -> None:
    async with client.stream("GET", address(running.job_id), headers={"Accept": "application/json"}) as stream:
        assert stream.status == 200
        headers = stream.headers
        assert headers.pop("x-request-id").startswith("req_")
        assert headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
            "x-tailrace-job": running.job_id,
            "transfer-encoding": "chunked",
        }


async def test_a_reader_gets_the_log_to_the_letter(client: Client, writing: JobSide, finished: LogWriter) -> None:
    async with client.stream("GET", address(finished.job_id)) as stream:
        assert await stream.rest() == await writing.logged(finished.job_id)
        assert stream.complete


async def test_a_long_log_comes_in_few_sends(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    for number in range(1000):
        await writer.say(str(number))
    await writer.complete()
    async with client.stream("GET", address(writer.job_id)) as stream:
        await stream.rest()
        assert len(stream.sends) <= 2


async def test_a_reader_follows_a_running_job_and_its_stream_ends_after_the_terminal_event_only(
    client: Client, writing: JobSide, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        said = await running.say("e")
        assert await stream.frame() == said
        assert stream.complete is None
        await running.complete()
        assert (await stream.frame()).startswith(b"event: completed\n")
        assert await stream.frame() == b""
        assert stream.complete


async def test_many_readers_of_one_job_get_the_same_bytes(client: Client, writing: JobSide, running: LogWriter) -> None:
    async def follow() -> bytes:
        async with client.stream("GET", address(running.job_id)) as stream:
            return await stream.rest()

    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(follow()) for _ in range(50)]
        for number in range(20):
            await running.say(str(number))
        await running.complete()
    assert {reading.result() for reading in readings} == {await writing.logged(running.job_id)}


async def test_a_quiet_stream_gets_heartbeats_between_frames(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    restless = settings.model_copy(update={"heartbeat_s": 0.01})
    async with running_gateway(restless) as gateway, gateway.client.stream("GET", address(writer.job_id)) as stream:
        await stream.frames(2)
        await stream.heartbeat()
        await stream.heartbeat()
        said = await writer.say("a")
        assert await stream.frame() == said


async def test_a_head_request_gets_the_headers_and_nothing_else(
    gateway: Gateway, client: Client, running: LogWriter
) -> None:
    async with client.stream("HEAD", address(running.job_id)) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-tailrace-job"] == running.job_id
        assert gateway.services.hub.readers == []
    await running.complete()
    assert (await client.request("HEAD", address(running.job_id, last_event_id="1-6"))).status == 204


# Cursors. The log: 0-1, 1-1, then 1-2 to 1-5 in one entry, 1-6.

ALL = ["0-1", "1-1", "1-2", "1-3", "1-4", "1-5", "1-6"]


@pytest.mark.parametrize("cursor", [None, "", "-1", "0"])
async def test_no_cursor_means_from_the_start(client: Client, finished: LogWriter, cursor: str | None) -> None:
    assert ids(await events(client, finished, cursor)) == ALL


@pytest.mark.parametrize(
    ("cursor", "first"),
    [("0-0", "0-1"), ("0-1", "1-1"), ("1-1", "1-2"), ("1-3", "1-4"), ("1-5", "1-6")],
)
async def test_a_reader_gets_what_follows_its_cursor(
    client: Client, finished: LogWriter, cursor: str, first: str
) -> None:
    assert ids(await events(client, finished, cursor)) == ALL[ALL.index(first) :]


async def test_a_cursor_in_the_address_means_the_same(client: Client, finished: LogWriter) -> None:
    async with client.stream("GET", address(finished.job_id, last_event_id="1-3")) as stream:
        assert ids(await stream.events()) == ["1-4", "1-5", "1-6"]


async def test_the_header_wins_over_the_address_since_it_is_newer(client: Client, finished: LogWriter) -> None:
    headers = {"Last-Event-ID": "1-4"}
    async with client.stream("GET", address(finished.job_id, last_event_id="1-1"), headers=headers) as stream:
        assert ids(await stream.events()) == ["1-5", "1-6"]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "1",
        "-2",
        "1-",
        "-1-1",
        "1-2-3",
        "1_2",
        "1-x",
        "1-1e3",
        "+1-1",
        "1- 2",
        "18446744073709551616-1",
        "1" * 5000,
        "18446744073709551615-1",
    ],
)
@pytest.mark.parametrize("where", ["header", "address"])
async def test_a_malformed_cursor_is_refused(client: Client, finished: LogWriter, cursor: str, where: str) -> None:
    if where == "header":
        answer = await client.get(address(finished.job_id), headers={"Last-Event-ID": cursor})
    else:
        encoded = cursor.replace("+", "%2B").replace(" ", "%20")
        answer = await client.get(address(finished.job_id, last_event_id=encoded))
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["param"]) == ("bad_cursor", "last_event_id")
    assert "1-17" in answer.json()["detail"]


async def test_a_cursor_at_the_end_of_a_running_job_waits_for_more(client: Client, running: LogWriter) -> None:
    async with client.stream("GET", address(running.job_id, last_event_id="1-5")) as stream:
        said = await running.say("e")
        assert await stream.frame() == said


async def test_a_finished_job_with_nothing_after_the_cursor_stops_the_reader(
    client: Client, finished: LogWriter
) -> None:
    answer = await client.get(address(finished.job_id), headers={"Last-Event-ID": "1-6"})
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert answer.headers["x-tailrace-job"] == finished.job_id


@pytest.mark.parametrize("cursor", ["0-7", "1-0", "1-7", "1-999", "2-1", "18446744073709551614-18446744073709551614"])
async def test_a_cursor_that_the_log_does_not_hold_gets_a_gap_and_then_everything(
    client: Client, finished: LogWriter, cursor: str
) -> None:
    gap, *rest = await events(client, finished, cursor)
    assert (gap.type, gap.id) == (EventType.GAP, None)
    assert gap.json() == {"requested": cursor, "earliest": "0-1", "latest": "1-6"}
    assert ids(rest) == ALL


async def test_a_cursor_ahead_of_a_running_job_gets_a_gap_everything_and_what_follows(
    client: Client, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id, last_event_id="9-9")) as stream:
        assert decode_frame(await stream.frame()).type is EventType.GAP
        assert [str(decode_frame(frame).id) for frame in await stream.frames(6)] == ALL[:6]
        said = await running.say("e")
        assert await stream.frame() == said


async def test_a_log_whose_head_is_gone_says_so_before_what_is_left(
    client: Client, writing: JobSide, finished: LogWriter
) -> None:
    await writing.client.xtrim(writing.keys.job(finished.job_id).log, maxlen=2, approximate=False)
    left = ["1-2", "1-3", "1-4", "1-5", "1-6"]
    for cursor in (None, "0-1"):
        gap, *rest = await events(client, finished, cursor)
        assert gap.json() == {"requested": cursor or "0-0", "earliest": "1-2", "latest": "1-6"}
        assert ids(rest) == left
    assert ids(await events(client, finished, "1-1")) == left
    assert ids(await events(client, finished, "1-3")) == left[2:]


async def test_after_its_retention_a_job_is_gone(settings: Settings) -> None:
    brief = settings.model_copy(update={"retention_s": 0.05})
    async with job_side(brief) as writing, running_gateway(brief) as gateway:
        writer = await writing.started()
        await writer.complete()
        keys = writing.keys.job(writer.job_id)
        async with asyncio.timeout(TIMEOUT_S):
            while await writing.client.exists(keys.record, keys.log, keys.request):
                pass
        for target in (address(writer.job_id), address(writer.job_id, last_event_id="1-1")):
            answer = await gateway.client.get(target)
            assert (answer.status, answer.json()["code"]) == (404, "job_not_found")


# The keys that may read.


async def test_a_link_opens_the_events_of_its_job_without_a_key(
    gateway: Gateway, client: Client, finished: LogWriter
) -> None:
    link = (await client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"]
    assert ids(await events_at(client.as_(None), link)) == ALL
    assert ids(await events_at(client.as_(None), link + "&last_event_id=1-4")) == ["1-5", "1-6"]
    assert ids(await events_at(client.as_("sk-bob"), link)) == ALL  # the link is enough


async def events_at(client: Client, target: str) -> list[Event]:
    async with client.stream("GET", target) as stream:
        assert stream.status == 200
        return await stream.events()


async def test_a_link_that_was_not_made_for_this_job_opens_nothing(client: Client, writing: JobSide) -> None:
    one, other = await writing.create(), await writing.create(tenant="bob")
    token = (await client.get(f"/v1/jobs/{one}")).json()["links"]["events"].partition("token=")[2]
    for target in (
        address(other, token=token),
        address(one, token=token[:-1] + ("A" if token[-1] != "A" else "B")),
        address(one, token=""),
        address(one, token="x"),
        address("job_0000000000000000000000000a", token=token),
        address("nonsense", token=token),
    ):
        for caller in (client.as_(None), client):
            answer = await caller.get(target)
            assert answer.status == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.json()["code"], answer.json()["param"]) == ("invalid_api_key", "token")


async def test_a_link_opens_nothing_but_events(client: Client, finished: LogWriter) -> None:
    token = (await client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"].partition("?")[2]
    nobody = client.as_(None)
    assert (await nobody.get(f"/v1/jobs/{finished.job_id}?{token}")).status == 401
    assert (await nobody.post(f"/v1/jobs/{finished.job_id}/cancel?{token}")).status == 401


async def test_links_of_all_gateways_are_good_at_all_gateways(settings: Settings, finished: LogWriter) -> None:
    shared = settings.model_copy(update={"secret": None})
    async with running_gateway(shared) as one, running_gateway(shared) as other:
        link = (await one.client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"]
        assert ids(await events_at(other.client.as_(None), link)) == ALL
    async with running_gateway(shared) as restarted:
        assert ids(await events_at(restarted.client.as_(None), link)) == ALL


async def test_a_link_dies_with_its_key_and_no_other_link_does(settings: Settings, finished: LogWriter) -> None:
    keys = ("sk-alice:alice", "sk-alice-2:alice")
    async with running_gateway(settings.model_copy(update={"api_keys": keys})) as gateway:
        path = f"/v1/jobs/{finished.job_id}"
        first, second = [
            (await gateway.client.as_(key).get(path)).json()["links"]["events"] for key in ("sk-alice", "sk-alice-2")
        ]
    async with running_gateway(settings.model_copy(update={"api_keys": keys[1:]})) as restarted:
        stranger = restarted.client.as_(None)
        assert (await stranger.get(first)).status == 401
        assert ids(await events_at(stranger, second)) == ALL


async def test_another_tenants_job_looks_like_one_that_never_was(client: Client, finished: LogWriter) -> None:
    def shape(answer: Answer, job_id: str) -> tuple[Any, ...]:
        headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        return answer.status, headers, answer.body.replace(job_id.encode(), b"JOB")

    bob, unknown = client.as_("sk-bob"), "job_0000000000000000000000000a"
    foreign = await bob.get(address(finished.job_id))
    assert foreign.status == 404
    assert shape(foreign, finished.job_id) == shape(await bob.get(address(unknown)), unknown)
    assert (await client.as_("sk-root").get(address(finished.job_id))).status == 404, "admins have no special eyes here"


# From gateway to gateway.


async def test_two_gateways_give_half_a_job_each(
    settings: Settings, gateway: Gateway, writing: JobSide, running: LogWriter
) -> None:
    async with running_gateway(settings) as other:
        async with gateway.client.stream("GET", address(running.job_id)) as stream:
            first = b"".join(await stream.frames(4))
        cursor = str(decode_frame(list(split_frames(first))[-1]).id)
        headers = {"Last-Event-ID": cursor}
        async with other.client.stream("GET", address(running.job_id), headers=headers) as stream:
            await running.say("e", "f")
            await running.complete()
            second = await stream.rest()
    assert first + second == await writing.logged(running.job_id)


async def test_everything_restarted_a_finished_job_replays_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway, job_side(private) as writing:
            writer = await writing.started()
            async with gateway.client.stream("GET", address(writer.job_id)) as stream:
                await writer.say("a", "b")
                await writer.say("naïve 東京 🌊 \u2028\n\ndata: x\r\n", {"reasoning_content": "hm"})
                await writer.complete()
                live = await stream.rest()
        await valkey.stop()
        await valkey.start()
        async with running_gateway(private) as gateway, gateway.client.stream("GET", address(writer.job_id)) as stream:
            assert await stream.rest() == live
            assert stream.complete


async def test_a_reader_loses_nothing_while_its_gateway_loses_its_pubsub_connection(
    client: Client, writing: JobSide, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        for number in range(30):
            await running.say(str(number))
            if number % 10 == 5:
                await writing.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await running.complete()
        assert ids(await stream.events())[-1] == "1-36"
        assert stream.complete


# How a stream may end.


async def test_a_stream_that_is_broken_off_says_when_to_return_and_never_ends_properly(
    gateway: Gateway, running: LogWriter
) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        (reader,) = gateway.services.hub.readers
        reader.break_off("We close.")
        assert RETRY.fullmatch(await stream.rest())
        assert stream.complete is False


async def test_a_stream_whose_job_vanishes_is_broken_and_the_next_one_is_not_found(
    gateway: Gateway, writing: JobSide, running: LogWriter
) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        keys = writing.keys.job(running.job_id)
        await writing.client.delete(keys.record, keys.log, keys.request)
        (reader,) = gateway.services.hub.readers
        reader.lose()
        assert RETRY.fullmatch(await stream.rest())
        assert stream.complete is False
    assert (await gateway.client.get(address(running.job_id))).status == 404


async def test_a_reader_that_leaves_is_forgotten_at_once(gateway: Gateway, running: LogWriter) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        assert len(gateway.services.hub.readers) == 1
    async with asyncio.timeout(TIMEOUT_S):
        await gateway.services.hub.emptied()


@asynccontextmanager
async def slow_reader(settings: Settings, writer: LogWriter) -> AsyncIterator[tuple[Gateway, Response]]:
    """Open a reader with a small socket, which has read two events and reads nothing until the test does."""
    small = settings.model_copy(update={"send_timeout_s": 0.5, "reader_bytes": 8192})
    async with (
        running_gateway(small) as gateway,
        gateway.client.stream("GET", address(writer.job_id), receive_buffer=4096) as stream,
    ):
        await stream.frames(2)
        yield gateway, stream


@pytest.mark.parametrize("ends", [False, True], ids=["running", "finished"])
async def test_a_frozen_reader_is_let_go_and_costs_no_memory(
    settings: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(hub_module, "_TICK_S", 0.01)
    writer = await writing.started()
    async with slow_reader(settings, writer) as (gateway, stream):
        (reader,) = gateway.services.hub.readers
        for _ in range(400):  # 4 MB: more than socket buffers take
            await writer.say("x" * 10_000)
            subscriber = reader._subscriber
            assert subscriber._pending_bytes + subscriber._held_bytes <= 8192 + 10_100
        if ends:
            await writer.complete()
        async with asyncio.timeout(TIMEOUT_S):
            await gateway.services.hub.emptied()
        await until(lambda: not gateway.connections)  # the kernel gives the socket up, not the client
        assert b"completed" not in await stream.rest()
        assert stream.complete is False


async def test_a_slow_reader_gets_everything_in_the_end(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    async with slow_reader(settings, writer) as (_, stream):
        for _ in range(30):
            await writer.say("x" * 10_000)
        await writer.complete()
        assert len(await stream.events()) == 31
        assert stream.complete
