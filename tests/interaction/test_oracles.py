"""Spend the same on another tenant's thing as on an unknown one: the same commands at Redis, so that no time differs.

Commands are counted, in place of times. Not here: that both answers are the same (test_access.py).
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.interaction.test_access import NOBODY, RESPONSE, ROUTES, TABLE, Access, Fails, call, ended_job
from tests.support.client import Answer, Client
from tests.support.system import System, ask, running_system, running_worker

Use = Callable[[Client, str], Awaitable[Answer]]
_JOB = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway without metrics, which it would publish at any moment, and a worker for Alice's job."""
    async with running_system(settings.model_copy(update={"metrics": False})) as system:
        yield system


@pytest.fixture
async def bare(system: System) -> str:
    """The characters of the id of a job of Alice's that has ended, and of which nothing is to be done any more."""
    async with running_worker(system.settings, Fails()):
        return await ended_job(system)


async def commands_of(system: System, use: Awaitable[Answer]) -> tuple[Answer, list[str]]:
    """Return an answer, and the commands at Redis that it took, with those inside of functions."""
    async with asyncio.timeout(10), system.core.client.monitor() as monitor:
        answer = await use
        seen: list[str] = []
        await system.core.client.echo("the answer is there")
        async for each in monitor.listen():
            if "the answer is there" in each["command"]:
                return answer, seen
            if is_of_a_caller(each["command"], system):
                seen.append(" ".join(each["command"].split()[:2]) if "FCALL" in each["command"] else word(each))
    raise AssertionError("the monitor ended")


def word(command: dict[str, Any]) -> str:
    return str(command["command"]).split()[0].upper()


def is_of_a_caller(command: str, system: System) -> bool:
    """Return whether a tenant's or a job's keys are in it: the gateway's own commands have others."""
    return system.settings.key_prefix in command and (":bob" in command or _JOB.search(command) is not None)


def on_route(route: str) -> Use:
    return lambda client, bare: call(client, route, bare)


def after_response(client: Client, bare: str) -> Awaitable[Answer]:
    return client.post("/v1/responses", {**RESPONSE, "previous_response_id": f"resp_{bare}"})


def referring(client: Client, bare: str) -> Awaitable[Answer]:
    item = {"type": "item_reference", "id": f"msg_{bare}_0"}
    return client.post("/v1/responses", {**RESPONSE, "input": [item]})


def resuming(client: Client, bare: str) -> Awaitable[Answer]:
    return client.get(f"/v1/responses/resp_{bare}?stream=true&starting_after=1")


def resuming_events(client: Client, bare: str) -> Awaitable[Answer]:
    return client.get(f"/v1/jobs/job_{bare}/events", headers={"Last-Event-ID": "1-1"})


def under_a_key(client: Client, bare: str) -> Awaitable[Answer]:
    return client.post("/v1/jobs", ask(), headers={"Idempotency-Key": bare})


def in_a_chat(client: Client, bare: str) -> Awaitable[Answer]:
    return client.post(f"/api/chat/{bare}/stop", {})


def chat_stream(client: Client, bare: str) -> Awaitable[Answer]:
    return client.get(f"/api/chat/{bare}/stream")


OWNED = [route for route in ROUTES if TABLE[route].access is Access.OWNER]
USES: dict[str, Use] = {
    **{route: on_route(route) for route in OWNED},
    **{use.__name__: use for use in (after_response, referring, resuming, resuming_events, in_a_chat, chat_stream)},
}


@pytest.mark.parametrize("name", USES)
async def test_another_tenants_resource_costs_the_same_commands_as_an_unknown_one(
    system: System, bare: str, name: str
) -> None:
    bob = system.client.as_("sk-bob")

    unknown, expected = await commands_of(system, USES[name](bob, NOBODY))
    anothers, seen = await commands_of(system, USES[name](bob, bare))

    assert (anothers.status, seen) == (unknown.status, expected)
    assert expected, "nothing was seen of the call"


async def test_another_tenants_idempotency_key_costs_the_same_commands_as_an_unused_one(system: System) -> None:
    bob = system.client.as_("sk-bob")
    first = (await under_a_key(system.client, "alices-key")).json()["id"]
    await under_a_key(bob, "bobs-first-key")  # which makes Bob's list of jobs

    unknown, expected = await commands_of(system, under_a_key(bob, "a-new-key"))
    anothers, seen = await commands_of(system, under_a_key(bob, "alices-key"))

    assert (anothers.status, seen) == (unknown.status, expected)
    assert first not in json.dumps([anothers.json(), unknown.json()])


async def test_the_owner_is_seen_to_take_other_commands(system: System, bare: str) -> None:
    """The comparison can fail."""
    _, unknown = await commands_of(system, after_response(system.client, NOBODY))
    _, own = await commands_of(system, after_response(system.client, bare))

    assert own != unknown
