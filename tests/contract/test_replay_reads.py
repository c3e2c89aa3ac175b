"""Test reads of the replay log: the page of a reader after its cursor, all frames of a log, and its tail."""

import asyncio
from itertools import pairwise

import pytest

from shared.model.errors import JobNotFound
from shared.model.events import START, EventId, after_cursor, first_id, parse_id
from shared.model.lifecycle import State
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store import replay_log as replay
from shared.store.replay_log import FRAMES_AT_ONCE, Page
from tests.support.core import Core, frames_of, fresh_job_id

ALL = 1 << 30


def ids_of(page: Page) -> list[str]:
    """Return the ids of the page's events."""
    text = b"".join(page.entries).decode()
    return [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]


async def test_all_frames_of_a_log_come_in_order_over_any_number_of_pages(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAGE_BYTES", 1)
    execution = await core.running()
    for seq in range(2, 8, 2):
        await core.append(frames_of(execution, seq, "a", "b"))
    await core.finish(execution, State.COMPLETED, seq=8)

    frames = [frame async for frame in core.log.frames(execution.job_id)]

    assert [str(first_id(frame)) for frame in frames] == ["0-1", *(f"1-{seq}" for seq in range(1, 9))]
    with pytest.raises(JobNotFound):
        await anext(core.log.frames(fresh_job_id()))


async def test_other_tasks_run_between_the_frames_of_one_page(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, *"a" * (2 * FRAMES_AT_ONCE)))
    loop = asyncio.get_running_loop()
    read, seen, reading = 0, [0], True

    def poll() -> None:
        seen.append(read)
        if reading:
            loop.call_soon(poll)

    poll()
    async for _ in core.log.frames(execution.job_id):
        read += 1
    reading = False

    assert read > 2 * FRAMES_AT_ONCE
    assert max(later - sooner for sooner, later in pairwise([*seen, read])) <= FRAMES_AT_ONCE


async def test_a_reader_from_the_start_gets_the_whole_log(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a", "b"))

    page = await core.log.read_after(execution.job_id, START, max_bytes=ALL)

    assert ids_of(page) == ["0-1", "1-1", "1-2", "1-3"]
    assert (page.status, page.earliest, page.latest, page.more) == (State.RUNNING, EventId(0, 1), EventId(1, 3), False)


@pytest.mark.parametrize(
    ("cursor", "ids"),
    [
        (EventId(0, 1), ["1-1", "1-2", "1-3", "1-4", "1-5"]),
        (EventId(0, 99), ["1-1", "1-2", "1-3", "1-4", "1-5"]),
        (EventId(1, 0), ["1-1", "1-2", "1-3", "1-4", "1-5"]),
        (EventId(1, 1), ["1-2", "1-3", "1-4", "1-5"]),
        (EventId(1, 2), ["1-2", "1-3", "1-4", "1-5"]),
        (EventId(1, 3), ["1-2", "1-3", "1-4", "1-5"]),
        (EventId(1, 4), ["1-5"]),
        (EventId(1, 5), []),
        (EventId(1, 6), []),
        (EventId(2, 0), []),
        (EventId(2**63, 2**63), []),
        (EventId(1, 2**64 - 2), []),
        (EventId(2**64 - 2, 2**64 - 2), []),
    ],
)
async def test_a_reader_gets_the_entries_with_events_after_its_cursor(
    core: Core, cursor: EventId, ids: list[str]
) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a", "b", "c"), frames_of(execution, 5, "d"))

    page = await core.log.read_after(execution.job_id, cursor, max_bytes=ALL)

    assert ids_of(page) == ids
    assert (page.earliest, page.latest, page.more) == (EventId(0, 1), EventId(1, 5), False)


async def test_a_cursor_is_known_if_the_log_holds_its_event_at_an_entrys_end_or_inside_it(core: Core) -> None:
    former = await core.running("w.1")
    await core.append(frames_of(former, 2, "a", "b", "c"), frames_of(former, 5, "d"))
    await core.begin(former.job_id, "w.2")
    held = [EventId(0, 1), *(EventId(1, seq) for seq in range(1, 6)), EventId(2, 1), EventId(2, 2)]
    others = [START, EventId(0, 2), EventId(1, 0), EventId(1, 6), EventId(1, 900), EventId(2, 0), EventId(2, 3)]

    pages = [await core.log.read_after(former.job_id, cursor, max_bytes=ALL) for cursor in held + others]

    assert [page.known for page in pages] == [True] * len(held) + [False] * len(others)


async def test_a_cursor_inside_an_entry_loses_and_repeats_nothing(core: Core) -> None:
    execution = await core.running()
    entry = frames_of(execution, 2, "a", "b", "c")
    await core.append(entry)

    (found,) = (await core.log.read_after(execution.job_id, EventId(1, 3), max_bytes=ALL)).entries

    assert found == entry.frames
    assert after_cursor(found, EventId(1, 3)) == frames_of(execution, 4, "c").frames


@pytest.mark.parametrize("max_bytes", [1, 100, 1_000, 5_000, ALL])
async def test_a_long_log_is_read_page_by_page_without_gap_or_repeat(core: Core, max_bytes: int) -> None:
    execution = await core.running()
    # More than one XRANGE of the function, with an exact multiple of it among them.
    await core.append(*(frames_of(execution, seq, f"{seq}") for seq in range(2, 192)))
    found, cursor, more = [], START, True

    while more:
        page = await core.log.read_after(execution.job_id, cursor, max_bytes=max_bytes)
        assert page.entries
        assert sum(map(len, page.entries[:-1])) < max(max_bytes, 1)
        found += ids_of(page)
        cursor, more = parse_id(found[-1]), page.more

    assert found == ["0-1"] + [f"1-{seq}" for seq in range(1, 192)]


@pytest.mark.parametrize("length", [63, 64, 65, 128])
async def test_the_last_page_says_that_it_is_the_last(core: Core, length: int) -> None:
    execution = await core.running()
    await core.append(*(frames_of(execution, seq, "x") for seq in range(2, length + 2)))

    page = await core.log.read_after(execution.job_id, EventId(1, 1), max_bytes=ALL)

    assert (len(page.entries), page.more) == (length, False)


async def test_an_entry_larger_than_a_page_is_still_read(core: Core) -> None:
    execution = await core.running()
    entry = frames_of(execution, 2, "x" * 10_000)
    await core.append(entry, frames_of(execution, 3, "y"))

    page = await core.log.read_after(execution.job_id, EventId(1, 1), max_bytes=10)

    assert (page.entries, page.more) == ([entry.frames], True)


async def test_a_trimmed_log_says_where_it_begins(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a"), frames_of(execution, 3, "b", "c"), frames_of(execution, 5, "d"))
    await core.client.xtrim(core.keys.job(execution.job_id).log, maxlen=2, approximate=False)

    page = await core.log.read_after(execution.job_id, EventId(1, 1), max_bytes=ALL)

    # The beginning of the first entry, not its end: its id would be 1-4.
    assert (page.earliest, page.latest) == (EventId(1, 3), EventId(1, 5))
    assert ids_of(page) == ["1-3", "1-4", "1-5"]


async def test_a_log_that_was_lost_altogether_is_empty_and_not_an_error(core: Core) -> None:
    execution = await core.running()
    await core.client.delete(core.keys.job(execution.job_id).log)

    page = await core.log.read_after(execution.job_id, EventId(1, 1), max_bytes=ALL)

    assert page == Page(State.RUNNING, START, START, False, [], False)


async def test_a_page_has_the_jobs_state(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED, seq=2)

    page = await core.log.read_after(execution.job_id, EventId(1, 2), max_bytes=ALL)

    assert (page.status, page.entries, page.latest) == (State.COMPLETED, [], EventId(1, 2))


async def test_the_log_of_a_job_that_is_gone_is_not_found(core: Core) -> None:
    with pytest.raises(JobNotFound):
        await core.log.read_after(fresh_job_id(), START, max_bytes=ALL)


async def test_tails_are_the_last_ids_of_many_logs(core: Core) -> None:
    running, queued, gone = await core.running(), await core.queued(), fresh_job_id()
    await core.append(frames_of(running, 2, "a", "b"))

    assert await core.log.tails([running.job_id, gone, queued]) == [EventId(1, 3), None, EventId(0, 1)]
    assert await core.log.tails([]) == []


async def test_reading_while_another_writes_never_sees_half_a_step(core: Core) -> None:
    execution = await core.running()

    async def write() -> None:
        for seq in range(2, 102, 2):
            await core.append(frames_of(execution, seq, "a", "b"))

    async def read() -> None:
        cursor = START
        while cursor < EventId(1, 101):
            page = await core.log.read_after(execution.job_id, cursor, max_bytes=ALL)
            new = [name for name in ids_of(page) if parse_id(name) > cursor]
            if new:
                assert new[-1] == str(page.latest)
                found.extend(new)
                cursor = page.latest

    found: list[str] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(read())

    assert found == ["0-1"] + [f"1-{seq}" for seq in range(1, 102)]


async def test_a_job_and_its_log_outlive_a_crash_of_the_server(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    execution = await own_core.running()
    await own_core.finish(execution, State.COMPLETED, seq=2)
    before = await own_core.log_bytes(execution.job_id)
    assert await own_core.client.execute_command("WAITAOF", 1, 0, 2_000) == [1, 0]
    own_valkey.kill()
    await own_valkey.died()

    await own_valkey.start()

    assert await own_core.log_bytes(execution.job_id) == before
