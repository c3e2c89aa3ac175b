"""Test the atomic steps as a library: the table they enforce, their names, and their rights when memory is short."""

import itertools
from typing import Any

import pytest

from shared.model.errors import Drained
from shared.model.lifecycle import TERMINAL, TRANSITIONS, Action, IllegalTransition, State, advance
from shared.model.parents import ParentEnd
from shared.store.client import Functions
from shared.store.executions import Execution
from shared.store.function_library import LIBRARY, Library, read_source
from shared.store.wire.answers import FinishAnswer, Written
from tests.support.core import Core, fresh_job_id

ENDINGS = {
    Action.COMPLETE: State.COMPLETED,
    Action.FAIL: State.FAILED,
    Action.FINISH_CANCELLED: State.CANCELLED,
    Action.EXPIRE: State.EXPIRED,
}
BY_THEN_ENDED = {State.COMPLETED: State.RUNNING, State.FAILED: State.RUNNING, State.EXPIRED: State.QUEUED}


async def job_in(core: Core, state: State) -> str:
    """Make a job in this state."""
    if state is State.CANCELLED:
        job_id = (await core.running()).job_id
        await core.cancel(job_id)
        assert await finish(core, job_id, State.CANCELLED) == Written()
    elif state in BY_THEN_ENDED:
        job_id = await job_in(core, BY_THEN_ENDED[state])
        assert await finish(core, job_id, state) == Written()
    elif state is State.WAITING:
        job_id = (await core.waiting_for(await core.queued())).id
    else:
        job_id = await core.queued()
        if state is not State.QUEUED:
            await core.begin(job_id)
        if state is State.CANCELLING:
            assert await core.cancel(job_id) == "cancelling"
    assert (await core.job(job_id)).status is state
    return job_id


async def finish(core: Core, job_id: str, status: State) -> FinishAnswer:
    """Finish as an owner that passes the fence: only the table can refuse it."""
    execution = await core.executions.take_over(job_id, "somebody")
    if not isinstance(execution, Execution):  # ended: its owner tries to write more
        record = await core.client.hmget(core.keys.job(job_id).record, ["epoch", "owner", "base"])  # type: ignore[misc]
        execution = Execution(job_id, int(record[0]), record[1].decode(), 0, int(record[2]), 1, 0)
    return await core.finish(execution, status)


async def act(core: Core, job_id: str, action: Action) -> bool:
    """Carry out an action; return whether it was accepted."""
    if action is Action.RELEASE:
        awaited = (await core.job(job_id)).awaited
        children = [
            child
            for parent in awaited or [fresh_job_id()]
            for child in await core.children.settle(parent, ParentEnd.COMPLETED, [job_id])
        ]
        return any(child.changed for child in children)
    if action is Action.BEGIN:
        epoch = (await core.job(job_id)).last.epoch
        begun = await core.executions.begin(job_id, "another", epoch=epoch, model="m", provider="p")
        return isinstance(begun, Execution)
    if action is Action.CANCEL:
        return await core.cancel(job_id) in ("cancelled", "cancelling")
    return await finish(core, job_id, ENDINGS[action]) == Written()


def expected(state: State, action: Action) -> State | None:
    try:
        return advance(state, action)
    except IllegalTransition:
        return None


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, Action)))
async def test_redis_allows_exactly_the_actions_of_the_lifecycle(core: Core, state: State, action: Action) -> None:
    job_id = await job_in(core, state)
    before = await core.log_bytes(job_id)

    accepted = await act(core, job_id, action)

    after, log = (await core.job(job_id)).status, await core.log_bytes(job_id)
    assert (after if accepted else None) == expected(state, action)
    if not accepted:
        assert (after, log) == (state, before)


@pytest.mark.parametrize("state", State)
async def test_each_job_that_has_not_ended_can_be_taken_over_and_keeps_its_status(core: Core, state: State) -> None:
    job_id = await job_in(core, state)
    before = await core.log_bytes(job_id)

    execution = await core.executions.take_over(job_id, "reaper")

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
    assert await core.executions.leave(execution, Drained("It was stopped."), costs=False)

    accepted = await act(core, execution.job_id, action)

    after = (await core.job(execution.job_id)).status
    assert (after if accepted else None) == expected(State.RUNNING, action)


async def test_a_job_whose_record_lacks_fields_can_be_ended(core: Core) -> None:
    job_id = (await core.running()).job_id
    await core.client.hdel(core.keys.job(job_id).record, "deadline", "attempts", "created", "base", "left")  # type: ignore[misc]

    assert await finish(core, job_id, State.FAILED) == Written()


def test_the_table_above_contains_each_end() -> None:
    assert {ENDINGS[action] for _, action in TRANSITIONS if action in ENDINGS} == TERMINAL


# The library.


async def library(core: Core, name: str = LIBRARY.name) -> dict[bytes, set[bytes]]:
    """Return the library's functions and their flags."""
    await core.functions.load()
    (found,) = await core.client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", name)
    functions = as_dict(found)[b"functions"]
    return {each[b"name"]: set(each[b"flags"]) for each in map(as_dict, functions)}


def as_dict(pairs: list[Any]) -> dict[bytes, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def another_version() -> Library:
    """Build a library that differs from ours in a comment."""
    return Library.of(read_source() + "-- another version\n")


async def names_of(core: Core) -> set[str]:
    """Return the libraries of the server."""
    found = await core.client.execute_command("FUNCTION", "LIST")
    return {as_dict(each)[b"library_name"].decode() for each in found}


async def test_each_functions_name_ends_in_the_hash_of_the_source(core: Core) -> None:
    names = await library(core)

    assert names
    assert all(name.startswith(b"tailrace_") and name.endswith(b"_" + LIBRARY.version.encode()) for name in names)
    assert another_version().version != LIBRARY.version


async def test_only_functions_that_take_in_more_work_are_refused_when_memory_is_short(core: Core) -> None:
    flags = await library(core)

    refused = {name for name, of in flags.items() if not of & {b"allow-oom", b"no-writes"}}
    takes_in = [
        "admit",
        "create",
        "create_waiting",
        "create_workflow",
        "append",
        "keep",
        "save_checkpoint",
        "chat_begin",
    ]
    assert refused == {LIBRARY.function(name).encode() for name in takes_in}


async def test_two_versions_of_the_library_work_side_by_side(own_core: Core) -> None:
    other = Functions(own_core.client, own_core.keys, another_version())
    await other.load()
    await own_core.functions.load()
    record = own_core.keys.job(await own_core.queued()).record

    assert await other.call("beat", [record], 0, "") == [b"ok"]
    assert await own_core.functions.call("beat", [record], 0, "") == [b"ok"]
    assert await names_of(own_core) == {LIBRARY.name, another_version().name}


async def test_loading_the_library_again_leaves_it_as_it_is(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.functions.call("idle", [])
    await own_core.functions.load()

    assert await own_core.functions.call("idle", []) >= 0
    assert await names_of(own_core) == {LIBRARY.name}


async def test_a_library_of_another_version_is_dropped_once_it_is_not_called_any_more(own_core: Core) -> None:
    other = Functions(own_core.client, own_core.keys, another_version())
    await own_core.functions.load()
    await other.load()
    assert await own_core.functions.drop_unused(unused_s=0.001) == []  # counts as just loaded: no check came before
    record = own_core.keys.job(await own_core.queued()).record
    await other.call("beat", [record], 0, "")
    assert await own_core.functions.drop_unused(unused_s=0.001) == []  # called since then
    await later(own_core)

    assert await own_core.functions.drop_unused(unused_s=3600) == []
    assert await own_core.functions.drop_unused(unused_s=0.001) == [another_version().name]

    assert await names_of(own_core) == {LIBRARY.name}
    assert await other.call("beat", [record], 0, "") == [b"ok"]  # a caller loads it again


async def test_libraries_of_others_and_of_older_kinds_are_never_dropped(own_core: Core) -> None:
    names = ("tailrace_1", "tailrace_something", "mine")
    for name in names:
        register = f"redis.register_function('{name}_f', function() return 1 end)"
        await own_core.client.execute_command("FUNCTION", "LOAD", f"#!lua name={name}\n{register}")
    await own_core.functions.load()

    assert await own_core.functions.drop_unused(unused_s=0) == []

    assert await names_of(own_core) == {*names, LIBRARY.name}


async def later(core: Core) -> None:
    """Wait until the server's clock shows another millisecond, and one more."""
    (seconds, micros) = await core.client.time()
    while await core.client.time() < (seconds, micros + 5000):
        pass
