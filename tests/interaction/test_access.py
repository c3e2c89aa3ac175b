"""Which callers may use which route: a table of all routes that the gateway has, tried by each kind of caller.

A route that is not in the table fails the first test. Not here: whether an allowed call does the right thing.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from starlette.routing import Route

from gateway.app import ROUTES as GATEWAY_ROUTES
from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.tenant_bounds import UNBOUNDED
from shared.model.workflows import NewWorkflow
from shared.store.workflows import Workflows
from tests.support.client import Answer, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import RETENTION_S
from tests.support.system import System, ask, running_system, running_worker


class Access(Enum):
    """The keys that may use a route."""

    PUBLIC = "anybody"
    KEY = "any key"
    OWNER = "the tenant that the thing in its address belongs to"
    ADMIN = "admin keys"


@dataclass(frozen=True)
class Rule:
    """A route's access, and a body that is fit for it."""

    access: Access
    body: Any = None


EMBEDDING = {"model": "mock", "input": "a"}
RESPONSE = {"model": "mock", "input": "Hello?", "background": True}
PAGE = {"id": "c-new", "model": "mock", "messages": [{"role": "user", "parts": [{"type": "text", "text": "a"}]}]}
TABLE: dict[str, Rule] = {
    "GET /": Rule(Access.PUBLIC),
    "GET /web/{file}": Rule(Access.PUBLIC),
    "GET /health/live": Rule(Access.PUBLIC),
    "GET /health/ready": Rule(Access.PUBLIC),
    "GET /metrics": Rule(Access.ADMIN),
    "GET /v1/models": Rule(Access.KEY),
    "GET /v1/models/{model:path}": Rule(Access.KEY),
    "GET /v1/webhook_secret": Rule(Access.KEY),
    "POST /v1/workflows": Rule(Access.KEY, {"steps": {"a": ask()}}),
    "GET /v1/workflows/{workflow_id}": Rule(Access.OWNER),
    "GET /v1/workflows/{workflow_id}/events": Rule(Access.OWNER),
    "POST /v1/workflows/{workflow_id}/cancel": Rule(Access.OWNER),
    "POST /v1/jobs": Rule(Access.KEY, ask()),
    "GET /v1/jobs": Rule(Access.KEY),
    "GET /v1/jobs/{job_id}": Rule(Access.OWNER),
    "GET /v1/jobs/{job_id}/events": Rule(Access.OWNER),
    "GET /v1/jobs/{job_id}/result": Rule(Access.OWNER),
    "POST /v1/jobs/{job_id}/cancel": Rule(Access.OWNER),
    "POST /tasks": Rule(Access.KEY, ask()),
    "POST /tasks/chat/completions": Rule(Access.KEY, ask()),
    "POST /tasks/embeddings": Rule(Access.KEY, EMBEDDING),
    "GET /tasks/{task_id}": Rule(Access.OWNER),
    "POST /tasks/{task_id}/cancel": Rule(Access.OWNER),
    "POST /v1/chat/completions": Rule(Access.KEY, ask(stream=True)),
    "GET /v1/chat/completions/{completion_id}": Rule(Access.OWNER),
    "POST /v1/completions": Rule(Access.KEY, {"model": "mock", "prompt": "a"}),
    "GET /v1/completions/{completion_id}": Rule(Access.OWNER),
    "POST /v1/embeddings": Rule(Access.KEY, EMBEDDING),
    "POST /v1/responses": Rule(Access.KEY, RESPONSE),
    "GET /v1/responses/{response_id}": Rule(Access.OWNER),
    "DELETE /v1/responses/{response_id}": Rule(Access.OWNER),
    "POST /v1/responses/{response_id}/cancel": Rule(Access.OWNER),
    "GET /v1/responses/{response_id}/input_items": Rule(Access.OWNER),
    "POST /api/chat": Rule(Access.KEY, PAGE),
    # A chat's id is its tenant's own name for it: another tenant's chat is a chat that has not begun.
    "GET /api/chat/{chat_id:path}/stream": Rule(Access.KEY),
    "POST /api/chat/{chat_id:path}/stop": Rule(Access.KEY),
    "GET /v1/dead-letters": Rule(Access.ADMIN),
    "DELETE /v1/dead-letters": Rule(Access.ADMIN),
    "POST /v1/dead-letters/requeue": Rule(Access.ADMIN),
    "GET /v1/dead-letters/{job_id}": Rule(Access.ADMIN),
    "DELETE /v1/dead-letters/{job_id}": Rule(Access.ADMIN),
    "POST /v1/dead-letters/{job_id}/requeue": Rule(Access.ADMIN),
}
STRANGERS: dict[str, dict[str, str]] = {
    "no key": {},
    "a wrong key": {"Authorization": "Bearer sk-nobody"},
    "an empty key": {"Authorization": "Bearer "},
    "another scheme": {"Authorization": "Basic c2stYWxpY2U="},
    "a key without its scheme": {"Authorization": "sk-alice"},
    "half a key": {"Authorization": "Bearer sk-alic"},
    "two keys in one": {"Authorization": "Bearer sk-alice, Bearer sk-alice"},
}
NOBODY = "0" * 26
"""The characters of an id that was never given."""


class Fails(ControlledProvider):
    """A provider that refuses each call at once, so that nothing runs on."""

    def __init__(self) -> None:
        super().__init__(lambda call: call.fail(ProviderRefused("No money.", code="insufficient_quota")))


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway, and a worker of a provider that refuses everything."""
    async with running_system(settings) as system, running_worker(settings, Fails()):
        yield system


def fill(template: str, bare: str) -> str:
    """Return the address of one thing; all its ids share these characters."""
    ids = {
        "{file}": "page.css",
        "{model:path}": "mock",
        "{job_id}": f"job_{bare}",
        "{task_id}": f"job_{bare}",
        "{workflow_id}": f"wf_{bare}",
        "{completion_id}": f"job_{bare}",
        "{response_id}": f"resp_{bare}",
        "{chat_id:path}": "c-1",
    }
    for name, value in ids.items():
        template = template.replace(name, value)
    return template


async def call(client: Client, route: str, bare: str, headers: dict[str, str] | None = None) -> Answer:
    """Use a route; of a stream, its first piece or nothing."""
    method, template = route.split(" ")
    rule = TABLE[route]
    async with asyncio.timeout(10):
        return await client.request(method, fill(template, bare), json_body=rule.body, headers=headers or {})


async def ended_job(system: System) -> str:
    """Return the characters of the ids of a job of Alice's that has failed, and of a workflow of this job."""
    job_id = await system.submit()
    await system.over(job_id)
    bare = job_id.removeprefix("job_")
    workflows = Workflows(system.core.client, system.core.keys, retention_s=RETENTION_S)
    new = NewWorkflow(f"wf_{bare}", "alice")
    await workflows.create(new, {"a": job_id}, UNBOUNDED)
    await workflows.open(new)
    return bare


def told_of(answer: Answer, bare: str) -> tuple[int, str]:
    """Return an answer without the characters of an id, and without those of the request."""
    text = answer.body.decode().replace(bare, "<id>")
    return answer.status, text


ROUTES = sorted(TABLE)


def test_the_table_has_each_route_of_the_gateway_and_no_other() -> None:
    routes = [each for each in GATEWAY_ROUTES if isinstance(each, Route)]
    assert len(routes) == len(GATEWAY_ROUTES)
    assert {f"{method} {each.path}" for each in routes for method in each.methods or () if method != "HEAD"} == set(
        TABLE
    )


async def test_only_public_routes_answer_without_a_valid_key(system: System) -> None:
    bare = await ended_job(system)
    stranger = system.client.as_(None)
    wrong = []
    for route in ROUTES:
        for name, headers in STRANGERS.items():
            answer = await call(stranger, route, bare, headers)
            allowed = answer.status not in (401, 403)
            if allowed != (TABLE[route].access is Access.PUBLIC) or (not allowed and answer.status != 401):
                wrong.append((route, name, answer.status))
    assert wrong == []
    assert len(await jobs_of(system.client)) == 1, "a stranger's call was carried out"


async def test_any_key_may_use_the_routes_for_keys(system: System) -> None:
    for route in ROUTES:
        if TABLE[route].access is Access.KEY:
            for key in ("sk-alice", "sk-bob", "sk-root"):
                answer = await call(system.client.as_(key), route, NOBODY)
                assert answer.status not in (401, 403, 404, 500), (route, key, answer.status)


async def test_another_tenants_resource_answers_like_an_unknown_one(system: System) -> None:
    bare = await ended_job(system)
    for route in ROUTES:
        if TABLE[route].access is Access.OWNER:
            for key in ("sk-bob", "sk-root"):
                other = system.client.as_(key)
                anothers = told_of(await call(other, route, bare), bare)
                assert anothers == told_of(await call(other, route, NOBODY), NOBODY), route
                assert anothers[0] == 404, (route, anothers)


async def test_the_owner_may_use_the_routes_of_its_resources(system: System) -> None:
    bare = await ended_job(system)
    # The deletion comes last.
    for route in sorted(ROUTES, key=lambda route: route.startswith("DELETE")):
        if TABLE[route].access is Access.OWNER:
            answer = await call(system.client, route, bare)
            assert answer.status != 401 and not (answer.status == 404 and route != RESULTLESS), (route, answer.status)


RESULTLESS = "GET /v1/jobs/{job_id}/result"
"""A chat has no result: its owner gets a 404, too."""


async def test_only_admin_keys_may_use_the_routes_for_admins(system: System) -> None:
    bare = await ended_job(system)
    for route in sorted(ROUTES, key=lambda route: (route.startswith("DELETE"), route)):
        if TABLE[route].access is Access.ADMIN:
            assert (await call(system.client, route, bare)).status == 403, route
            assert (await call(system.client.as_("sk-root"), route, bare)).status not in (401, 403, 500), route


async def test_a_link_opens_the_events_of_its_job_and_nothing_else(system: System) -> None:
    bare, other = await ended_job(system), await ended_job(system)
    links = json.loads((await system.client.get(f"/v1/jobs/job_{bare}")).body)["links"]
    token = links["events"].partition("?")[2]
    stranger = system.client.as_(None)

    assert (await stranger.get(f"/v1/jobs/job_{bare}/events?{token}")).status == 200
    assert (await stranger.get(f"/v1/jobs/job_{other}/events?{token}")).status == 401
    for route in ROUTES:
        method, template = route.split(" ")
        if TABLE[route].access is not Access.PUBLIC and "/events" not in template:
            target = f"{fill(template, bare)}?{token}"
            answer = await stranger.request(method, target, json_body=TABLE[route].body)
            assert answer.status == 401, (route, answer.status)


async def jobs_of(client: Client) -> list[Any]:
    """Return the tenant's jobs."""
    found: list[Any] = (await client.get("/v1/jobs")).json()["data"]
    return found
