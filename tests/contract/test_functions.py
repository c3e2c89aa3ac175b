"""The atomic steps as a library: the table they enforce, their names and what they may do when memory is short."""

import itertools
from typing import Any

import pytest

from shared.errors import Drained
from shared.function_library import read_source
from shared.lifecycle import TERMINAL, TRANSITIONS, Action, IllegalTransition, State, advance
from shared.store import Execution
from shared.valkey import FUNCTIONS_VERSION
from tests.support.core import Core

ENDINGS = {
    Action.COMPLETE: State.COMPLETED,
    Action.FAIL: State.FAILED,
    Action.FINISH_CANCELLED: State.CANCELLED,
    Action.EXPIRE: State.EXPIRED,
}
BY_THEN_ENDED = {State.COMPLETED: State.RUNNING, State.FAILED: State.RUNNING, State.EXPIRED: State.QUEUED}


async def job_in(core: Core, state: State) -> str:
    """A job that has come to this state."""
    if state is State.CANCELLED:
        job_id = (await core.running()).job_id
        await core.cancel(job_id)
        assert await finish(core, job_id, State.CANCELLED) == "ok"
    elif state in BY_THEN_ENDED:
        job_id = await job_in(core, BY_THEN_ENDED[state])
        assert await finish(core, job_id, state) == "ok"
    else:
        job_id = await core.queued()
        if state is not State.QUEUED:
            await core.begin(job_id)
        if state is State.CANCELLING:
            assert await core.cancel(job_id) == "cancelling"
    assert (await core.job(job_id)).status is state
    return job_id


async def finish(core: Core, job_id: str, status: State) -> str:
    """Finish as somebody who may, as far as the fence is concerned: only the table stands against it."""
    execution = await core.store.take_over(job_id, "somebody")
    if not isinstance(execution, Execution):  # ended: who ended it tries to go on writing
        record = await core.client.hmget(core.keys.job(job_id).record, ["epoch", "owner", "base"])  # type: ignore[misc]
        execution = Execution(job_id, int(record[0]), record[1].decode(), 0, int(record[2]), 1, 0)
    return await core.finish(execution, status)


async def act(core: Core, job_id: str, action: Action) -> bool:
    """Carry out an action; whether it was accepted."""
    if action is Action.BEGIN:
        epoch = (await core.job(job_id)).last.epoch
        begun = await core.store.begin(job_id, "another", epoch=epoch, model="m", provider="p")
        return isinstance(begun, Execution)
    if action is Action.CANCEL:
        return await core.cancel(job_id) in ("cancelled", "cancelling")
    return await finish(core, job_id, ENDINGS[action]) == "ok"


def expected(state: State, action: Action) -> State | None:
    try:
        return advance(state, action)
    except IllegalTransition:
        return None


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, Action)))
async def test_redis_allows_exactly_what_the_lifecycle_allows(core: Core, state: State, action: Action) -> None:
    job_id = await job_in(core, state)
    before = await core.log_bytes(job_id)

    accepted = await act(core, job_id, action)

    after, log = (await core.job(job_id)).status, await core.log_bytes(job_id)
    assert (after if accepted else None) == expected(state, action)
    if not accepted:
        assert (after, log) == (state, before)


@pytest.mark.parametrize("state", State)
async def test_any_job_that_has_not_ended_can_be_taken_over_and_stays_what_it_is(core: Core, state: State) -> None:
    job_id = await job_in(core, state)
    before = await core.log_bytes(job_id)

    execution = await core.store.take_over(job_id, "reaper")

    assert isinstance(execution, Execution) == (state not in TERMINAL)
    assert (await core.job(job_id)).status is state
    assert await core.log_bytes(job_id) == before


@pytest.mark.parametrize("action", Action)
async def test_a_queued_job_that_was_taken_over_is_still_a_queued_job(core: Core, action: Action) -> None:
    job_id = await core.queued()
    await core.take_over(job_id)

    accepted = await act(core, job_id, action)

    after = (await core.job(job_id)).status
    assert (after if accepted else None) == expected(State.QUEUED, action)


@pytest.mark.parametrize("action", Action)
async def test_a_running_job_that_was_handed_back_is_still_a_running_job(core: Core, action: Action) -> None:
    execution = await core.running()
    assert await core.store.leave(execution, Drained("It was stopped."), costs=False)

    accepted = await act(core, execution.job_id, action)

    after = (await core.job(execution.job_id)).status
    assert (after if accepted else None) == expected(State.RUNNING, action)


def test_the_table_above_knows_every_way_to_end() -> None:
    assert {ENDINGS[action] for _, action in TRANSITIONS if action in ENDINGS} == TERMINAL


# The library.


async def library(core: Core, name: str = f"tailrace_{FUNCTIONS_VERSION}") -> dict[bytes, set[bytes]]:
    """The library's functions and their flags."""
    await core.functions.load()
    (found,) = await core.client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", name)
    functions = as_dict(found)[b"functions"]
    return {each[b"name"]: set(each[b"flags"]) for each in map(as_dict, functions)}


def as_dict(pairs: list[Any]) -> dict[bytes, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


async def test_the_version_is_in_every_functions_name(core: Core) -> None:
    names = await library(core)

    assert names
    assert all(name.startswith(b"tailrace_") and name.endswith(b"_%d" % FUNCTIONS_VERSION) for name in names)


async def test_only_what_takes_in_more_work_is_refused_when_memory_is_short(core: Core) -> None:
    flags = await library(core)

    refused = {name for name, of in flags.items() if not of & {b"allow-oom", b"no-writes"}}
    takes_in = ("admit", "create", "append", "keep", "chat_begin")
    assert refused == {f"tailrace_{name}_1".encode() for name in takes_in}


async def test_two_versions_of_the_library_work_side_by_side(own_core: Core) -> None:
    code = read_source()
    newer = code.replace("name=tailrace_1", "name=tailrace_2").replace("local VERSION = '_1'", "local VERSION = '_2'")
    await own_core.client.execute_command("FUNCTION", "LOAD", newer)
    await own_core.functions.load()

    job_id = await own_core.queued()
    record = own_core.keys.job(job_id).record
    assert await own_core.client.execute_command("FCALL", "tailrace_beat_2", 1, record, 0, "") == [b"ok"]
    assert await own_core.client.execute_command("FCALL", "tailrace_beat_1", 1, record, 0, "") == [b"ok"]


async def test_loading_the_library_again_replaces_it(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.functions.load()

    assert len(await own_core.client.execute_command("FUNCTION", "LIST")) == 1
