"""Serve the dead letter API over HTTP: its keys, its content, and that requeueing makes one job, never two."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api import dead_letters as api
from shared.config.settings import Settings
from shared.model.bounds import LIST_MOST
from shared.model.errors import ProviderRefused, problem_of
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.store.dead_letters import DeadLetters
from shared.store.wire.answers import Written
from tests.support.client import Answer, Client
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import captured_logs, make_spec
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker

ROOT = "/v1/dead-letters"
REFUSED = ProviderRefused("Not that.", code="insufficient_quota")
NO_SUCH = "job_00000000000000000000000000"
CALLS = [
    ("GET", ROOT),
    ("DELETE", f"{ROOT}?all=true"),
    ("POST", f"{ROOT}/requeue?all=true"),
    ("GET", f"{ROOT}/{NO_SUCH}"),
    ("DELETE", f"{ROOT}/{NO_SUCH}"),
    ("POST", f"{ROOT}/{NO_SUCH}/requeue"),
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Failed jobs are kept for twice as long as others."""
    return settings.model_copy(update={"dead_letter_retention_s": 120.0, "lanes": ("default:1", "low:1")})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
def root(system: System) -> Client:
    """Return an admin."""
    return system.client.as_("sk-root")


async def dead_letter(system: System, code: str = "insufficient_quota", **changes: Any) -> str:
    """Make a dead letter without a worker; return its id."""
    core = system.core
    spec = make_spec(**{"model": "mock", **changes})
    await core.store.create(spec, 1)
    execution = await core.begin(spec.id)
    data = encode_data({"error": problem_of(ProviderRefused("Not that.", code=code)), "usage": None, "events": 3})
    frame = encode_frame(EventType.FAILED, data, EventId(execution.epoch, 2))
    assert await core.executions.finish(execution, seq=2, frame=frame, status=State.FAILED, outcome=data) == Written()
    # As a gateway of these settings would: the core of the tests keeps very few.
    assert await system.gateway.services.dead_letters.add(spec.id) is not None
    return spec.id


async def ids(root: Client, query: str = "") -> list[str]:
    answer = await root.get(f"{ROOT}{query}")
    assert answer.status == 200, answer.body
    return [each["id"] for each in answer.json()["data"]]


async def requeue(root: Client, job_id: str) -> dict[str, Any]:
    answer = await root.post(f"{ROOT}/{job_id}/requeue")
    assert answer.status == 202, answer.body
    job: dict[str, Any] = answer.json()
    return job


def problem(answer: Answer) -> tuple[int, str, str | None]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    return answer.status, body["code"], body.get("param")


async def in_lane(system: System) -> int:
    return await system.core.depth("default") + await system.core.depth("low")


# The keys that may use it.


@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_only_admin_keys_may(system: System, method: str, target: str) -> None:
    job_id = await dead_letter(system)
    target = target.replace(NO_SUCH, job_id)

    answers = [await system.client.as_(key).request(method, target) for key in ("sk-alice", "sk-unknown", None)]

    assert [answer.status for answer in answers] == [403, 401, 401]
    assert await ids(system.client.as_("sk-root")) == [job_id]


async def test_a_job_whose_request_was_to_blame_is_no_dead_letter(system: System, root: Client) -> None:
    core, kept = system.core, await dead_letter(system)
    spec = make_spec(model="mock")
    await core.store.create(spec, 1)
    execution = await core.begin(spec.id)
    data = encode_data({"error": problem_of(ProviderRefused("n is bad.", code="invalid_request")), "events": 3})
    frame = encode_frame(EventType.FAILED, data, EventId(execution.epoch, 2))
    assert await core.executions.finish(execution, seq=2, frame=frame, status=State.FAILED, outcome=data) == Written()
    # As a former version would have it.
    for key in (core.keys.dead_letters, core.keys.open_dead_letters):
        await core.client.zadd(key, {spec.id: 10**13})

    answers = [
        await root.request(method, f"{ROOT}/{spec.id}{rest}")
        for method, rest in (("GET", ""), ("POST", "/requeue"), ("DELETE", ""))
    ]

    assert [problem(answer)[:2] for answer in answers] == [(404, "dead_letter_not_found")] * 3
    assert await ids(root) == [kept]
    assert (await system.job(spec.id)).status is State.FAILED


# Reading.


async def test_the_list_shows_the_last_that_failed_first_and_no_prompt(system: System, root: Client) -> None:
    first, second = await dead_letter(system), await dead_letter(system, tenant="bob", code="provider_error")

    answer = (await root.get(ROOT)).json()

    assert (answer["object"], answer["has_more"], answer["next"]) == ("list", False, None)
    assert [each["id"] for each in answer["data"]] == [second, first]
    shown = answer["data"][0]
    assert (shown["object"], shown["status"], shown["tenant"]) == ("dead_letter", "failed", "bob")
    assert shown["error"]["code"] == "provider_error"
    assert [each["error"]["code"] for each in shown["attempts"]] == ["provider_error"]
    assert shown["links"] == {"self": f"{ROOT}/{second}", "requeue": f"{ROOT}/{second}/requeue"}
    assert "Hi" not in str(answer)


async def test_a_look_shows_the_request_and_opens_the_events(system: System, root: Client) -> None:
    body = encode_data({"model": "mock", "messages": [{"role": "user", "content": "Hi"}], "tailrace": {"kept": 1}})
    job_id = await dead_letter(system, request=body)

    shown = (await root.get(f"{ROOT}/{job_id}")).json()
    events = await root.as_(None).get(shown["links"]["events"])

    assert shown["request"] == {"model": "mock", "messages": [{"role": "user", "content": "Hi"}]}
    assert (shown["tenant"], shown["error"]["message"]) == ("alice", "Not that.")
    assert b"event: failed" in events.body


async def test_its_tenant_sees_the_job_as_before(system: System, root: Client) -> None:
    job_id = await system.submit()
    core = system.core
    await core.finish(await core.take_over(job_id), State.FAILED)
    await core.dead_letters.add(job_id)

    listed = (await system.client.get("/v1/jobs?status=failed")).json()["data"]

    assert [job["id"] for job in listed] == [job_id]
    assert (await system.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "failed"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abc"),
        ("?tenant=bob", "b"),
        ("?code=provider_error", "bc"),
        ("?model=other", "c"),
        ("?tenant=alice&code=provider_error", "c"),
        ("?tenant=carol", ""),
        ("?requeued=false", "abc"),
        ("?requeued=true", "d"),
        ("?requeued=any", "abcd"),
        ("?requeued=any&tenant=bob", "b"),
    ],
)
async def test_filters_say_which(system: System, root: Client, query: str, found: str) -> None:
    letters = {
        "a": await dead_letter(system),
        "b": await dead_letter(system, tenant="bob", code="provider_error"),
        "c": await dead_letter(system, model="other", code="provider_error"),
        "d": await dead_letter(system),
    }
    await requeue(root, letters["d"])

    assert sorted(await ids(root, query)) == sorted(letters[each] for each in found)


async def test_pages_follow_each_other_without_gap_or_repeat(system: System, root: Client) -> None:
    letters = [await dead_letter(system) for _ in range(5)]

    found, query = [], "?limit=2"
    while query:
        page = (await root.get(ROOT + query)).json()
        found += [each["id"] for each in page["data"]]
        query = f"?limit=2&after={page['next']}" if page["has_more"] else ""

    assert sorted(found) == sorted(letters)


async def test_a_filter_that_little_passes_gives_a_short_page_and_where_to_continue(
    system: System, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LIST_MOST", 2)
    monkeypatch.setattr(api, "LIST_ROUNDS", 1)
    rare = await dead_letter(system, tenant="rare")
    for _ in range(3):
        await dead_letter(system)

    first = (await root.get(f"{ROOT}?tenant=rare")).json()
    second = (await root.get(f"{ROOT}?tenant=rare&after={first['next']}")).json()

    assert (first["data"], first["has_more"]) == ([], True)
    assert [each["id"] for each in second["data"]] == [rare]


@pytest.mark.parametrize(
    ("method", "query", "param"),
    [
        ("GET", "?colour=red", "colour"),
        ("GET", "?all=true", "all"),
        ("GET", "?requeued=perhaps", "requeued"),
        ("GET", "?limit=0", "limit"),
        ("GET", f"?limit={LIST_MOST + 1}", "limit"),
        ("GET", "?after=job_00000000000000000000000000", "after"),
        ("DELETE", "", "all"),
        ("DELETE", "?limit=5", "all"),
        ("DELETE", "?all=yes", "all"),
        ("POST", "", "all"),
    ],
)
async def test_a_query_that_is_wrong_names_what_and_changes_nothing(
    system: System, root: Client, method: str, query: str, param: str
) -> None:
    job_id = await dead_letter(system)

    answer = await root.request(method, f"{ROOT}{'/requeue' if method == 'POST' else ''}{query}")

    assert problem(answer)[::2] == (400, param)
    assert (await ids(root), await in_lane(system)) == ([job_id], 0)


@pytest.mark.parametrize("job_id", [NO_SUCH, "nonsense"])
async def test_there_is_none_of_an_unknown_id(root: Client, job_id: str) -> None:
    answers = [
        await root.get(f"{ROOT}/{job_id}"),
        await root.request("DELETE", f"{ROOT}/{job_id}"),
        await root.post(f"{ROOT}/{job_id}/requeue"),
    ]

    assert [problem(answer)[:2] for answer in answers] == [(404, "dead_letter_not_found")] * 3


async def test_a_job_that_has_not_failed_is_none(system: System, root: Client) -> None:
    job_id = await system.submit()

    for answer in (await root.get(f"{ROOT}/{job_id}"), await root.post(f"{ROOT}/{job_id}/requeue")):
        assert problem(answer)[:2] == (404, "dead_letter_not_found")


async def test_one_whose_owner_has_deleted_its_job_is_gone(system: System, root: Client) -> None:
    job_id = await dead_letter(system)
    await system.core.store.forget(job_id)

    assert (await root.get(f"{ROOT}/{job_id}")).status == 404
    assert await ids(root) == []
    assert await system.gateway.services.dead_letters.open() == 0


async def test_one_that_nobody_can_read_is_shown_as_far_as_it_goes(system: System, root: Client) -> None:
    job_id = await dead_letter(system)
    await system.write(job_id, v=99)

    (listed,) = (await root.get(ROOT)).json()["data"]
    shown = (await root.get(f"{ROOT}/{job_id}")).json()
    requeued = await root.post(f"{ROOT}/{job_id}/requeue")
    (reported,) = (await root.post(f"{ROOT}/requeue?all=true")).json()["data"]

    assert (listed["id"], listed["error"]["code"]) == (job_id, "broken_job")
    assert listed["ended_at"] is not None
    assert shown["request"] is None
    assert problem(requeued)[1] == reported["error"]["code"] == "broken_job"
    assert await ids(root, "?tenant=alice") == await ids(root, "?requeued=true") == []
    assert (await root.request("DELETE", f"{ROOT}/{job_id}")).status == 200
    assert (await root.get(f"{ROOT}/{job_id}")).status == 404


async def test_one_whose_request_nobody_can_read_is_shown_without_it_and_not_requeued(
    system: System, root: Client
) -> None:
    job_id = await dead_letter(system)
    await system.core.client.set(system.core.keys.job(job_id).request, "{")

    shown = (await root.get(f"{ROOT}/{job_id}")).json()

    assert (shown["tenant"], shown["request"]) == ("alice", None)
    assert problem(await root.post(f"{ROOT}/{job_id}/requeue"))[1] == "broken_job"
    assert await ids(root) == [job_id]


# Requeueing.


async def test_a_dead_letter_becomes_a_new_job_of_its_tenant_that_asks_the_same(system: System, root: Client) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        fields: dict[str, Any] = {
            "lane": "low",
            "timeout_s": 20,
            "metadata": {"colour": "blue"},
            "on_stream_failure": "fail",
        }
        old = await system.submit(ask("Once more?", temperature=0.5, **fields))
        (await provider.call()).fail(REFUSED)
        await system.story(old)
        with captured_logs() as logs:
            shown = await requeue(root, old)
        (await provider.call(1)).end()
        story = await system.story(shown["id"])
        first, second = provider.calls
        job = await system.job(shown["id"])

    assert shown["id"] != old
    assert (shown["status"], shown["tenant"], shown["requeued_from"]) == ("queued", "alice", old)
    assert story.types == ["queued", "started", "completed"]
    assert first.request == second.request
    assert (job.lane, job.model, dict(job.metadata)) == ("low", "mock", {"colour": "blue"})
    assert (job.deadline_ms - job.created_ms, str(job.on_stream_failure)) == (20_000, "fail")
    before = (await system.client.get(f"/v1/jobs/{old}")).json()
    assert (before["status"], before["requeued_as"]) == ("failed", shown["id"])
    (event,) = logs.named("dead_letter.requeued")
    assert (event["job"], event["requeued_as"], event["by"]) == (old, shown["id"], "root")


async def test_requeueing_answers_as_submitting_does(system: System, root: Client) -> None:
    answer = await root.post(f"{ROOT}/{await dead_letter(system)}/requeue")

    job = answer.json()
    assert answer.status == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["x-tailrace-job"] == job["id"]
    assert (await system.client.get(answer.headers["location"])).json()["requeued_from"] == job["requeued_from"]


async def test_a_dialects_own_words_are_kept(system: System, root: Client) -> None:
    body = encode_data({"model": "mock", "messages": [{"role": "user", "content": "Hi"}], "tailrace": {"kept": 1}})
    shown = await requeue(root, await dead_letter(system, request=body))

    _, _, kept = await system.core.store.load_with_kept(shown["id"])
    assert kept == {"kept": 1}


async def test_requeueing_again_answers_the_same_job_also_at_once_and_after_its_end(
    system: System, root: Client
) -> None:
    old = await dead_letter(system)

    at_once = await asyncio.gather(*(requeue(root, old) for _ in range(10)))
    (new,) = {job["id"] for job in at_once}
    assert await in_lane(system) == 1
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        await system.story(new)
    again = await requeue(root, old)

    assert (again["id"], again["status"]) == (new, "completed")
    assert await in_lane(system) == 0


@pytest.mark.parametrize("step", ["before", "after"])
async def test_a_crash_between_the_new_job_and_its_name_makes_no_second_one(
    system: System, root: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = await dead_letter(system)
    write = DeadLetters.requeued

    async def crashing(self: DeadLetters, job_id: str, as_job_id: str) -> None:
        if step == "after":
            await self._functions.call("requeued", [self._keys.job(job_id).record], as_job_id)
        raise RuntimeError("The gateway dies here.")

    monkeypatch.setattr(DeadLetters, "requeued", crashing)
    assert (await root.post(f"{ROOT}/{old}/requeue")).status == 500
    monkeypatch.setattr(DeadLetters, "requeued", write)
    if step == "after":  # the list is mended when it is read
        assert await ids(root) == []

    new = await requeue(root, old)

    assert await in_lane(system) == 1
    assert (await system.job(old)).requeued_as == new["id"]
    assert (await ids(root), await ids(root, "?requeued=true")) == ([], [old])


async def test_two_gateways_make_one_job(settings: Settings, system: System) -> None:
    old = await dead_letter(system)
    async with Processes(settings) as processes:
        ports = [int((await processes.gateway()).url.rpartition(":")[2]) for _ in range(2)]
        callers = [Client(port, "sk-root") for port in ports * 5]
        jobs = await asyncio.gather(*(requeue(caller, old) for caller in callers))

    assert len({job["id"] for job in jobs}) == 1
    assert await in_lane(system) == 1


async def test_a_full_lane_refuses_and_the_letter_stays_open(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_depth": 1})) as system:
        root = system.client.as_("sk-root")
        old = await dead_letter(system)
        waiting = await system.submit()

        refused = await root.post(f"{ROOT}/{old}/requeue")
        assert problem(refused)[:2] == (429, "queue_full")
        assert await ids(root) == [old]
        assert (await system.job(old)).requeued_as is None

        await system.cancel(waiting)
        assert (await requeue(root, old))["requeued_from"] == old


@pytest.mark.parametrize(("changes", "param"), [({"lane": "gone"}, "lane"), ({"model": "gone"}, "model")])
async def test_what_is_not_there_any_more_is_named(settings: Settings, changes: dict[str, str], param: str) -> None:
    async with running_system(settings.model_copy(update={"models": ("mock",)})) as system:
        root = system.client.as_("sk-root")
        request = encode_data({"messages": [{"role": "user", "content": "Hi"}], "model": changes.get("model", "mock")})
        old = await dead_letter(system, request=request, **changes)

        assert problem(await root.post(f"{ROOT}/{old}/requeue"))[2] == param
        assert await ids(root) == [old]


async def test_a_job_that_is_gone_by_now_is_named_and_made_no_second_time(system: System, root: Client) -> None:
    old = await dead_letter(system)
    new = (await requeue(root, old))["id"]
    await system.cancel(new)
    await system.core.store.forget(new)

    answer = await root.post(f"{ROOT}/{old}/requeue")

    assert problem(answer)[:2] == (404, "job_not_found")
    assert new in answer.json()["detail"]
    assert await in_lane(system) == 0


async def test_a_requeued_job_that_fails_is_a_dead_letter_of_its_own(system: System, root: Client) -> None:
    old = await dead_letter(system)
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        new = (await requeue(root, old))["id"]
        (await provider.call()).fail(REFUSED)
        await system.story(new)

    assert await ids(root) == [new]
    assert await ids(root, "?requeued=true") == [old]


async def test_many_are_requeued_at_once_and_each_is_told(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_depth": 2, "max_waiting_per_tenant": 9})) as system:
        root = system.client.as_("sk-root")
        await dead_letter(system, tenant="bob")
        letters = [await dead_letter(system) for _ in range(3)]

        answer = (await root.post(f"{ROOT}/requeue?tenant=alice")).json()

        reported = {each["id"]: each for each in answer["data"]}
        assert (answer["requeued"], answer["failed"], answer["has_more"]) == (2, 1, False)
        assert reported.keys() == set(letters)
        (refused,) = [each for each in reported.values() if each["error"]]
        assert (refused["error"]["code"], refused["requeued_as"]) == ("queue_full", None)
        for each in reported.values():
            assert (await system.job(each["id"])).requeued_as == each["requeued_as"]
        assert await ids(root, "?tenant=alice") == [refused["id"]]


async def test_many_are_requeued_page_by_page(system: System, root: Client) -> None:
    for _ in range(3):
        await dead_letter(system)

    first = (await root.post(f"{ROOT}/requeue?all=true&limit=2")).json()
    second = (await root.post(f"{ROOT}/requeue?all=true&limit=2&after={first['next']}")).json()

    assert [(page["requeued"], page["has_more"]) for page in (first, second)] == [(2, True), (1, False)]
    assert (await ids(root), await in_lane(system)) == ([], 3)


async def test_a_gateway_on_its_way_out_requeues_nothing(system: System, root: Client) -> None:
    old = await dead_letter(system)
    system.gateway.services.draining = True

    for target in (f"{ROOT}/{old}/requeue", f"{ROOT}/requeue?all=true"):
        assert problem(await root.post(target))[:2] == (503, "draining")
    assert await ids(root) == [old]


# Deleting.


async def test_one_that_is_deleted_is_an_ordinary_job_for_its_tenant(system: System, root: Client) -> None:
    old = await dead_letter(system)

    answers = [await root.request("DELETE", f"{ROOT}/{old}") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json() == {"id": old, "object": "dead_letter", "deleted": True}
    assert await ids(root, "?requeued=any") == []
    assert (await root.get(f"{ROOT}/{old}")).status == 404
    assert (await system.client.get(f"/v1/jobs/{old}")).json()["status"] == "failed"
    assert await system.core.client.ttl(system.core.keys.job(old).record) <= system.settings.retention_s


async def test_many_are_deleted_page_by_page(system: System, root: Client) -> None:
    kept = await dead_letter(system, tenant="bob")
    for _ in range(3):
        await dead_letter(system)

    first = (await root.request("DELETE", f"{ROOT}?tenant=alice&limit=2")).json()
    second = (await root.request("DELETE", f"{ROOT}?tenant=alice&limit=2&after={first['next']}")).json()

    assert [(page["deleted"], page["has_more"]) for page in (first, second)] == [(2, True), (1, False)]
    assert await ids(root) == [kept]
    assert (await root.request("DELETE", f"{ROOT}?all=true")).json()["deleted"] == 1
    assert await ids(root) == []


# The whole of it, with real processes.


async def test_a_poison_job_ends_as_a_dead_letter_and_not_in_a_loop(system: System, root: Client) -> None:
    async with controlled_upstream() as (provider, url), Processes(system.settings) as processes:
        job_id = await system.submit()
        for number in range(2):
            worker = await processes.worker(upstream_url=url, lease_s=0.5)
            await provider.call(number)
            await worker.crash()
        await processes.worker(upstream_url=url, lease_s=0.5)
        assert (await system.story(job_id, within_s=20)).code == "poison_job"
        assert len(provider.calls) == 2

        (shown,) = await until_listed(system, root)
        assert (shown["id"], shown["error"]["code"], len(shown["attempts"])) == (job_id, "poison_job", 2)
        new = (await requeue(root, job_id))["id"]
        (await provider.call(2)).end()
        assert (await system.story(new)).types[-1] == "completed"


async def until_listed(system: System, root: Client) -> list[dict[str, Any]]:
    """Return the listed dead letters, once a worker has run its completion steps."""
    async with system.commands() as seen:
        if not (listed := (await root.get(ROOT)).json()["data"]):
            await seen("tailrace_done_")
            listed = (await root.get(ROOT)).json()["data"]
    return list(listed)


async def test_the_gauge_tells_how_many_are_open(system: System, root: Client) -> None:
    letters = [await dead_letter(system) for _ in range(3)]
    await requeue(root, letters[0])
    await root.request("DELETE", f"{ROOT}/{letters[1]}")

    lines = (await root.get("/metrics")).body.decode().splitlines()

    assert "tailrace_dead_letters_open 1.0" in lines
