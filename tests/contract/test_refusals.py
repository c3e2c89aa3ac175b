"""Test error answers of a real server, as its clients raise them."""

import asyncio
from pathlib import Path

import pytest

from shared.model.errors import StartupError
from shared.model.lifecycle import State
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import REDIS_DOWN, Client, open_client, require_redis
from shared.store.keys import Keys
from shared.store.refusals import PassingRefusal, RefusedByRedis, name_of
from shared.store.server_check import check_server
from tests.support.core import TIMEOUT_S, Core, frames_of, make_spec
from tests.support.refusals import PASSING, Refusing, demoted


@pytest.mark.parametrize(("word", "refusing"), PASSING.items(), ids=PASSING)
async def test_a_server_that_cannot_serve_now_counts_as_down_until_it_can(
    own_core: Core, own_valkey: EmbeddedValkey, tmp_path: Path, word: str, refusing: Refusing
) -> None:
    await own_core.functions.load()
    async with refusing(own_core.client, own_valkey.url, tmp_path / "own-valkey"):
        with pytest.raises(PassingRefusal) as of_a_function:
            await own_core.queued()
        with pytest.raises(PassingRefusal) as of_a_command:
            await (own_core.client.get("a") if word == "MASTERDOWN" else own_core.client.set("a", "b"))

    assert isinstance(of_a_function.value, REDIS_DOWN)
    assert name_of(of_a_function.value) in (word, "READONLY")
    assert name_of(of_a_command.value) == word
    assert await own_core.queued()


async def test_a_command_that_waits_in_a_server_that_is_demoted_is_an_outage(
    own_core: Core, own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with open_client(own_valkey.url, command_timeout_s=None) as client:
        waiting = asyncio.create_task(client.execute_command("BLPOP", "a", 0))
        async with asyncio.timeout(TIMEOUT_S):
            while (await own_core.client.info("clients"))["blocked_clients"] == 0:
                pass
        async with demoted(own_core.client, own_valkey.url, tmp_path):
            with pytest.raises(PassingRefusal) as refusal:
                await asyncio.wait_for(waiting, TIMEOUT_S)

    assert name_of(refusal.value) in ("UNBLOCKED", "READONLY")


# Refused for good.


async def restricted(core: Core, url: str, *rules: str) -> Client:
    """Return a client of a user with these rights."""
    await core.client.execute_command("ACL", "SETUSER", "tail", "reset", "on", ">secret", *rules)
    return open_client("redis://tail:secret@" + url.rpartition("@")[2])


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (("+@all", "-fcall", "~*", "&*"), r"the command FCALL \(NOPERM .*fcall.*right to it\.$"),
        (("+@all", "~other:*", "&*"), r"the command FCALL \(NOPERM .*keys?.*right to it\.$"),
        (("+@all", "-xadd", "~*", "&*"), r"the command FCALL \(NOPERM This user may not XADD .*right to it\.$"),
        (("+@all", "~*"), r"the command FCALL \(NOPERM This user may not PUBLISH .*right to it\.$"),
        (("+@all", "-time", "~*", "&*"), r"the command FCALL \(ERR ACL failure in script.*time.*right to it\.$"),
    ],
    ids=["a command", "a key", "a command in a function", "a channel in a function", "a command that is not checked"],
)
async def test_a_missing_right_is_one_sentence_with_the_command(
    own_core: Core, own_valkey: EmbeddedValkey, rules: tuple[str, ...], refused: str
) -> None:
    await own_core.functions.load()
    async with await restricted(own_core, own_valkey.url, *rules) as client:
        functions = type(own_core.functions)(client, own_core.keys)
        keys = own_core.keys.job("job_1")
        spec = ("job_1", 1, "chat", "alice", "default", "m", "{}", 1000, 0, "{}", 1, "continue", "", "", "", "", "")
        kept = ("", "", own_core.keys.kept_bytes("alice"), "", "", "", "", "")
        with pytest.raises(StartupError, match=rf"^Redis refuses {refused}"), require_redis():
            await functions.call("create", [keys.record, keys.request, keys.log, keys.channel], *spec, *kept)


async def test_a_missing_password_is_one_sentence(own_valkey: EmbeddedValkey) -> None:
    async with open_client("redis://" + own_valkey.url.rpartition("@")[2]) as client:
        with pytest.raises(StartupError, match=r"^Redis refuses the user or the password \(NOAUTH .*address\.$"):
            await check_server(client, Keys())


async def test_a_database_that_does_not_exist_is_one_sentence(own_valkey: EmbeddedValkey) -> None:
    async with open_client(own_valkey.url.rpartition("/")[0] + "/99") as client:
        with pytest.raises(StartupError, match=r"^Redis refuses the database \(ERR DB index .*address\.$"):
            await check_server(client, Keys())


async def test_a_refused_command_counts_as_an_outage_while_a_process_runs(own_core: Core) -> None:
    await own_core.client.execute_command("ACL", "SETUSER", "default", "-get")

    with pytest.raises(RefusedByRedis) as refusal:
        await own_core.client.get("a")

    assert isinstance(refusal.value, REDIS_DOWN)
    assert name_of(refusal.value) == "NOPERM"


# A step that would be refused half-way.


async def test_a_step_of_which_a_part_is_denied_writes_nothing(own_core: Core) -> None:
    core, fresh = own_core, make_spec()
    queued, execution = await core.queued(), await core.running()
    running = execution.job_id
    before = {job_id: await state_of(core, job_id) for job_id in (queued, running)}
    await core.client.execute_command("ACL", "SETUSER", "default", "resetchannels")
    steps = (
        lambda: core.store.create(fresh, 1),
        lambda: core.begin(queued),
        lambda: core.cancel(queued),
        lambda: core.cancel(running),
        lambda: core.append(frames_of(execution, 2, "x")),
        lambda: core.finish(execution, State.COMPLETED, seq=2),
    )
    for step in steps:
        with pytest.raises(RefusedByRedis, match="NOPERM This user may not PUBLISH"):
            await step()

    assert {job_id: await state_of(core, job_id) for job_id in (queued, running)} == before
    assert await core.client.exists(core.keys.job(fresh.id).record, core.keys.job(fresh.id).log) == 0


async def state_of(core: Core, job_id: str) -> tuple[object, bytes]:
    """Return a job's record and log."""
    return await core.client.hgetall(core.keys.job(job_id).record), await core.log_bytes(job_id)  # type: ignore[misc]
