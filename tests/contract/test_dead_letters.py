"""Test the list of dead letters on a real Valkey: its members, their order, their time on it, and their number."""

import asyncio
from typing import Any

import pytest

from shared.model.errors import AttemptFailed, BadCursor, JobNotFound, ProviderRefused, ProviderUnreachable, problem_of
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.store.dead_letters import DeadLetters, Listed, NewDeadLetter
from shared.store.wire.answers import Written
from tests.support.core import DEAD_LETTER_RETENTION_S, MOST_DEAD_LETTERS, RETENTION_S, Core, fresh_job_id

SLACK_S = 5.0


UNREACHABLE = ProviderUnreachable("Nobody is there.")


async def failed(core: Core, error: AttemptFailed = UNREACHABLE, **changes: Any) -> str:
    """Make a failed job, before its completion steps."""
    execution = await core.running(**changes)
    data = encode_data({"error": problem_of(error), "sha256": "", "events": 3})
    frame = encode_frame(EventType.FAILED, data, EventId(execution.epoch, 2))
    assert await core.executions.finish(execution, seq=2, frame=frame, status=State.FAILED, outcome=data) == Written()
    return execution.job_id


async def dead_letter(core: Core, **changes: Any) -> str:
    """Make a job that is a dead letter."""
    job_id = await failed(core, **changes)
    assert await core.dead_letters.add(job_id) is not None
    return job_id


async def ended_at(core: Core, job_id: str, ms: int) -> None:
    """Let a job that has failed have ended at another time."""
    await core.client.hset(core.keys.job(job_id).record, "ended", str(ms))  # type: ignore[misc]


async def ids(core: Core, *, only_open: bool = True) -> list[str]:
    return [each.job_id for each in await core.dead_letters.listed(None, 100, only_open=only_open)]


async def kept_s(core: Core, job_id: str) -> list[float]:
    """Return how long each of the job's keys is kept."""
    keys = core.keys.job(job_id)
    return [await core.client.pttl(key) / 1000 for key in (keys.record, keys.request, keys.log)]


async def test_a_job_that_failed_becomes_a_dead_letter_once(core: Core) -> None:
    job_id = await failed(core, tenant="bob", lane="low")

    first, second = [await core.dead_letters.add(job_id) for _ in range(2)]

    assert first == NewDeadLetter(job_id, "bob", "low", "provider_unreachable", 1)
    assert second is None
    assert await ids(core) == await ids(core, only_open=False) == [job_id]
    assert await core.dead_letters.open() == 1


@pytest.mark.parametrize("keep_s", [2.0, 1e6])
async def test_a_job_that_is_not_stored_does_not_become_a_dead_letter_and_expires_soon(
    core: Core, keep_s: float
) -> None:
    job_id = await failed(core, keep_s=keep_s)

    assert await core.dead_letters.add(job_id) is None
    assert await ids(core, only_open=False) == []
    assert (await core.job(job_id)).dead_letter is False
    longest_s = min(keep_s, DEAD_LETTER_RETENTION_S)
    assert all(longest_s - 1 < each <= longest_s for each in await kept_s(core, job_id))


async def test_one_of_many_concurrent_additions_succeeds(core: Core) -> None:
    job_id = await failed(core)

    reported = await asyncio.gather(*(core.dead_letters.add(job_id) for _ in range(10)))

    assert len([each for each in reported if each is not None]) == 1


@pytest.mark.parametrize("state", [State.COMPLETED, State.EXPIRED])
async def test_a_job_that_did_not_fail_does_not_become_a_dead_letter(core: Core, state: State) -> None:
    execution = await core.running()
    await core.finish(execution, state)

    assert await core.dead_letters.add(execution.job_id) is None
    assert await ids(core, only_open=False) == []


async def test_a_cancelled_running_or_unknown_job_does_not_become_a_dead_letter(core: Core) -> None:
    cancelled, running = await core.queued(), (await core.running()).job_id
    await core.cancel(cancelled)

    for job_id in (cancelled, running, fresh_job_id()):
        assert await core.dead_letters.add(job_id) is None
    assert await ids(core, only_open=False) == []


async def test_a_job_deleted_while_it_ran_does_not_become_a_dead_letter(core: Core) -> None:
    execution = await core.running()
    assert await core.store.forget(execution.job_id) == "hidden"
    await core.finish(execution, State.FAILED)

    assert await core.dead_letters.add(execution.job_id) is None


@pytest.mark.parametrize("code", ["invalid_request", "context_length_exceeded", "content_policy_violation"])
async def test_a_job_that_failed_by_its_own_request_is_kept_as_an_ordinary_job(core: Core, code: str) -> None:
    job_id = await failed(core, ProviderRefused("No.", code=code))

    assert await core.dead_letters.add(job_id) is None
    assert await ids(core, only_open=False) == []
    assert not (await core.job(job_id)).dead_letter
    assert not await core.dead_letters.dismiss(job_id)
    assert all(RETENTION_S - SLACK_S < each <= RETENTION_S for each in await kept_s(core, job_id))


async def test_dismissing_removes_a_dead_letter_that_a_former_version_listed(core: Core) -> None:
    job_id = await failed(core, ProviderRefused("No.", code="invalid_request"))
    for key in (core.keys.dead_letters, core.keys.open_dead_letters):
        await core.client.zadd(key, {job_id: (await core.job(job_id)).ended_ms})

    assert not await core.dead_letters.dismiss(job_id)

    assert await ids(core, only_open=False) == await ids(core) == []


async def test_a_failed_job_with_an_unreadable_outcome_becomes_a_dead_letter(core: Core) -> None:
    job_id = await failed(core)
    await core.client.hset(core.keys.job(job_id).record, "outcome", "{")  # type: ignore[misc]

    added = await core.dead_letters.add(job_id)

    assert added is not None and added.code == ""


async def test_a_failed_job_is_kept_longer_than_a_completed_one(core: Core) -> None:
    done = await core.running()
    await core.finish(done, State.COMPLETED)
    dead = await failed(core)

    assert all(RETENTION_S - SLACK_S < each <= RETENTION_S for each in await kept_s(core, done.job_id))
    longer = DEAD_LETTER_RETENTION_S
    assert all(longer - SLACK_S < each <= longer for each in await kept_s(core, dead))


async def test_they_are_listed_from_the_last_that_ended_page_by_page(core: Core) -> None:
    # Three of them end in the same millisecond.
    now = (await core.job(await failed(core))).ended_ms
    jobs = [await failed(core) for _ in range(5)]
    for job_id, at in zip(jobs, (now - 9, now - 5, now - 5, now - 5, now - 1), strict=True):
        await ended_at(core, job_id, at)
        assert await core.dead_letters.add(job_id) is not None

    found: list[Listed] = []
    while page := await core.dead_letters.listed(found[-1] if found else None, 2, only_open=True):
        found += page

    assert [each.job_id for each in found] == [jobs[4], *sorted(jobs[1:4], reverse=True), jobs[0]]
    assert [each.ended_ms for each in found] == [now - 1, now - 5, now - 5, now - 5, now - 9]


async def test_a_page_continues_after_a_dismissed_dead_letter(core: Core) -> None:
    jobs = [await failed(core) for _ in range(3)]
    now = (await core.job(jobs[0])).ended_ms
    for age, job_id in enumerate(jobs):
        await ended_at(core, job_id, now - age)
        await core.dead_letters.add(job_id)
    (first,) = await core.dead_letters.listed(None, 1, only_open=True)
    await core.dead_letters.dismiss(first.job_id)

    rest = await core.dead_letters.listed(first, 10, only_open=True)

    assert [each.job_id for each in rest] == jobs[1:]


async def test_the_oldest_dead_letters_over_the_bound_are_removed_with_their_jobs(core: Core) -> None:
    now = (await core.job(await failed(core))).ended_ms
    jobs = [await failed(core) for _ in range(MOST_DEAD_LETTERS + 2)]
    old_ms = int((RETENTION_S + 1) * 1000)
    for age, job_id in enumerate(jobs):
        await ended_at(core, job_id, now - age - (old_ms if age >= MOST_DEAD_LETTERS else 0))
    for job_id in reversed(jobs):
        await core.dead_letters.add(job_id)

    assert await ids(core) == await ids(core, only_open=False) == jobs[:MOST_DEAD_LETTERS]
    for job_id in jobs[MOST_DEAD_LETTERS:]:  # no longer than a job that did not fail
        with pytest.raises(JobNotFound):
            await core.job(job_id)


async def test_a_dead_letter_over_the_bound_stays_an_ordinary_job(core: Core) -> None:
    now = (await core.job(await failed(core))).ended_ms
    jobs = [await failed(core) for _ in range(MOST_DEAD_LETTERS + 1)]
    for age, job_id in enumerate(jobs):
        await ended_at(core, job_id, now - age)
        await core.dead_letters.add(job_id)

    assert not (await core.job(jobs[-1])).dead_letter
    assert all(each <= RETENTION_S for each in await kept_s(core, jobs[-1]))


async def test_adding_a_dead_letter_removes_expired_ones(core: Core) -> None:
    old, next_one = await dead_letter(core), await failed(core)
    over = (await core.job(old)).ended_ms - int(DEAD_LETTER_RETENTION_S * 1000)
    for key in (core.keys.dead_letters, core.keys.open_dead_letters):
        await core.client.zadd(key, {old: over})
    assert await core.dead_letters.open() == 0

    await core.dead_letters.add(next_one)

    assert await ids(core) == await ids(core, only_open=False) == [next_one]


async def test_one_whose_time_is_over_already_does_not_become_one(core: Core) -> None:
    job_id = await failed(core)
    await ended_at(core, job_id, 1)

    assert await core.dead_letters.add(job_id) is None
    assert await ids(core, only_open=False) == []


async def test_a_requeued_dead_letter_stays_listed_but_not_as_open(core: Core) -> None:
    job_id = await dead_letter(core)
    first, second = fresh_job_id(), fresh_job_id()

    await core.dead_letters.requeued(job_id, first)
    await core.dead_letters.requeued(job_id, second)

    assert (await core.job(job_id)).requeued_as == first
    assert (await ids(core), await ids(core, only_open=False)) == ([], [job_id])
    assert await core.dead_letters.open() == 0


async def test_requeueing_does_not_restore_a_deleted_dead_letter(core: Core) -> None:
    job_id = await dead_letter(core)
    await core.store.forget(job_id)

    await core.dead_letters.requeued(job_id, fresh_job_id())

    with pytest.raises(JobNotFound):
        await core.job(job_id)


async def test_a_dismissed_dead_letter_becomes_an_ordinary_job_and_stays_one(core: Core) -> None:
    job_id = await dead_letter(core)

    assert [await core.dead_letters.dismiss(job_id) for _ in range(2)] == [True, True]

    assert await ids(core, only_open=False) == []
    assert all(RETENTION_S - SLACK_S < each <= RETENTION_S for each in await kept_s(core, job_id))
    # Its completion steps run once more.
    assert await core.dead_letters.add(job_id) is None
    assert await ids(core, only_open=False) == []


async def test_a_job_that_is_not_a_dead_letter_is_not_dismissed(core: Core) -> None:
    running = await core.running()

    assert not await core.dead_letters.dismiss(running.job_id)
    assert not await core.dead_letters.dismiss(fresh_job_id())
    assert await core.client.pttl(core.keys.job(running.job_id).record) == -1


async def test_a_list_that_holds_most_ids_of_nothing_drops_them(core: Core) -> None:
    jobs = [await dead_letter(core) for _ in range(2)]

    await core.dead_letters.drop([])
    await core.dead_letters.drop(jobs[:1])

    assert await ids(core) == await ids(core, only_open=False) == jobs[1:]


@pytest.mark.parametrize("cursor", ["", "12", "job_00000000000000000000000000", "-1-job_x", "1-job_x", "x-job_1"])
def test_a_malformed_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor, match="after"):
        Listed.parse(cursor)


def test_a_cursor_is_read_as_it_was_written() -> None:
    listed = Listed(fresh_job_id(), 1_700_000_000_123)

    assert Listed.parse(str(listed)) == listed


def test_dead_letters_are_never_kept_for_a_shorter_time_than_other_jobs(core: Core) -> None:
    letters = DeadLetters(
        core.client,
        core.keys,
        retention_s=60.0,
        dead_letter_retention_s=1.0,
        most=1,
        most_of_tenant=1,
    )

    assert letters._kept_ms == 60_000


# Shares.


def shares(core: Core, *, most: int, most_of_tenant: int) -> DeadLetters:
    """Build a view of the same dead letters, with these bounds."""
    return DeadLetters(
        core.client,
        core.keys,
        retention_s=RETENTION_S,
        dead_letter_retention_s=DEAD_LETTER_RETENTION_S,
        most=most,
        most_of_tenant=most_of_tenant,
    )


async def dead_letters_of(core: Core, letters: DeadLetters, tenant: str, count: int) -> list[str]:
    """Make so many dead letters of a tenant, the first of them the oldest."""
    jobs = [await failed(core, tenant=tenant) for _ in range(count)]
    now = (await core.job(jobs[0])).ended_ms
    for age, job_id in enumerate(reversed(jobs)):
        await ended_at(core, job_id, now - age)
    for job_id in jobs:
        assert await letters.add(job_id) is not None
    return jobs


async def test_a_tenants_dead_letters_displace_its_own_and_no_other(core: Core) -> None:
    letters = shares(core, most=10, most_of_tenant=3)
    mine = await dead_letters_of(core, letters, "alice", 2)
    left = await kept_s(core, mine[0])

    theirs = await dead_letters_of(core, letters, "bob", 8)

    assert set(await ids(core, only_open=False)) == {*mine, *theirs[-3:]}
    assert [(await core.job(job_id)).dismissed for job_id in theirs] == [True] * 5 + [False] * 3
    assert min(await kept_s(core, mine[0])) > min(left) - 5 > RETENTION_S
    assert max(await kept_s(core, theirs[0])) <= RETENTION_S


async def test_the_tenant_with_the_most_dead_letters_loses_its_oldest(core: Core) -> None:
    letters = shares(core, most=5, most_of_tenant=4)
    many, few = await dead_letters_of(core, letters, "bob", 4), await dead_letters_of(core, letters, "alice", 1)

    further = await dead_letters_of(core, letters, "carol", 2)

    assert set(await ids(core, only_open=False)) == {*many[2:], *few, *further}


async def test_letters_of_a_version_without_shares_go_first_and_are_dropped_like_others(core: Core) -> None:
    letters = shares(core, most=5, most_of_tenant=4)
    old = await dead_letters_of(core, letters, "bob", 4)
    for key in (core.keys.dead_letter_owners, core.keys.dead_letter_tenants, core.keys.dead_letters_of + "bob"):
        await core.client.delete(key)

    new = await dead_letters_of(core, letters, "bob", 2)
    await letters.dismiss(old[1])

    assert set(await ids(core, only_open=False)) == {*old[2:], *new}


async def test_a_dismissed_dead_letter_makes_room_in_its_tenants_share(core: Core) -> None:
    letters = shares(core, most=10, most_of_tenant=2)
    first, second = await dead_letters_of(core, letters, "alice", 2)
    await letters.dismiss(second)

    (third,) = await dead_letters_of(core, letters, "alice", 1)

    assert set(await ids(core, only_open=False)) == {first, third}
    assert await core.client.hlen(core.keys.dead_letter_owners) == 2  # type: ignore[misc]
    for job_id in (first, third):
        await letters.dismiss(job_id)
    own = [core.keys.dead_letter_owners, core.keys.dead_letter_tenants, core.keys.dead_letters_of + "alice"]
    assert await core.client.exists(*own) == 0
