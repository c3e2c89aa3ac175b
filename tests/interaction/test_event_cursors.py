"""Continue a stream of events after a cursor, and report a gap where the log does not hold it."""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType, decode_frame
from tests.support.client import TIMEOUT_S, Client
from tests.support.events_api import ALL, address, events, ids
from tests.support.gateway import running_gateway
from tests.support.log_writer import JobSide, LogWriter, job_side


@pytest.mark.parametrize("cursor", [None, "", "-1", "0"])
async def test_no_cursor_means_from_the_start(client: Client, finished: LogWriter, cursor: str | None) -> None:
    assert ids(await events(client, finished, cursor)) == ALL


@pytest.mark.parametrize(
    ("cursor", "first"),
    [("0-0", "0-1"), ("0-1", "1-1"), ("1-1", "1-2"), ("1-3", "1-4"), ("1-5", "1-6")],
)
async def test_a_reader_gets_the_events_after_its_cursor(
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


async def test_a_cursor_ahead_of_a_running_job_gets_a_gap_the_whole_log_and_later_events(
    client: Client, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id, last_event_id="9-9")) as stream:
        assert decode_frame(await stream.frame()).type is EventType.GAP
        assert [str(decode_frame(frame).id) for frame in await stream.frames(6)] == ALL[:6]
        said = await running.say("e")
        assert await stream.frame() == said


async def test_a_log_without_its_head_begins_with_a_gap(client: Client, writing: JobSide, finished: LogWriter) -> None:
    await writing.client.xtrim(writing.keys.job(finished.job_id).log, maxlen=2, approximate=False)
    left = ["1-2", "1-3", "1-4", "1-5", "1-6"]
    for cursor in (None, "0-1"):
        gap, *rest = await events(client, finished, cursor)
        assert gap.json() == {"requested": cursor or "0-0", "earliest": "1-2", "latest": "1-6"}
        assert ids(rest) == left
    assert ids(await events(client, finished, "1-1")) == left
    assert ids(await events(client, finished, "1-3")) == left[2:]


async def test_a_job_is_deleted_after_its_retention(settings: Settings) -> None:
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
