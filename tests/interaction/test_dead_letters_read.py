"""List dead letters, look at one, and keep both from all but admins."""

import pytest

from gateway.api import dead_letters as api
from shared.config.settings import Settings
from shared.model.bounds import LIST_MOST
from shared.model.errors import ProviderRefused, problem_of
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.store.wire.answers import Written
from tests.support.client import Client
from tests.support.core import make_spec
from tests.support.dead_letters_api import NO_SUCH, ROOT, dead_letter, ids, in_lane, problem, requeue, with_dead_letters
from tests.support.system import System

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
    return with_dead_letters(settings)


# The keys that may use it.


@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_only_admin_keys_may_use_dead_letters(system: System, method: str, target: str) -> None:
    job_id = await dead_letter(system)
    target = target.replace(NO_SUCH, job_id)

    answers = [await system.client.as_(key).request(method, target) for key in ("sk-alice", "sk-unknown", None)]

    assert [answer.status for answer in answers] == [403, 401, 401]
    assert await ids(system.client.as_("sk-root")) == [job_id]


async def test_a_job_that_failed_by_its_own_request_is_not_a_dead_letter(system: System, root: Client) -> None:
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
async def test_filters_select_dead_letters(system: System, root: Client, query: str, found: str) -> None:
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


async def test_a_filter_that_few_letters_pass_gives_a_short_page_and_a_cursor(
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
async def test_the_error_of_a_wrong_query_names_its_parameter_and_changes_nothing(
    system: System, root: Client, method: str, query: str, param: str
) -> None:
    job_id = await dead_letter(system)

    answer = await root.request(method, f"{ROOT}{'/requeue' if method == 'POST' else ''}{query}")

    assert problem(answer)[::2] == (400, param)
    assert (await ids(root), await in_lane(system)) == ([job_id], 0)


@pytest.mark.parametrize("job_id", [NO_SUCH, "nonsense"])
async def test_an_unknown_id_is_a_404(root: Client, job_id: str) -> None:
    answers = [
        await root.get(f"{ROOT}/{job_id}"),
        await root.request("DELETE", f"{ROOT}/{job_id}"),
        await root.post(f"{ROOT}/{job_id}/requeue"),
    ]

    assert [problem(answer)[:2] for answer in answers] == [(404, "dead_letter_not_found")] * 3


async def test_a_job_that_has_not_failed_is_not_a_dead_letter(system: System, root: Client) -> None:
    job_id = await system.submit()

    for answer in (await root.get(f"{ROOT}/{job_id}"), await root.post(f"{ROOT}/{job_id}/requeue")):
        assert problem(answer)[:2] == (404, "dead_letter_not_found")


async def test_a_dead_letter_disappears_if_the_owner_deletes_its_job(system: System, root: Client) -> None:
    job_id = await dead_letter(system)
    await system.core.store.forget(job_id)

    assert (await root.get(f"{ROOT}/{job_id}")).status == 404
    assert await ids(root) == []
    assert await system.gateway.services.dead_letters.open() == 0


async def test_the_readable_part_of_an_unreadable_dead_letter_is_shown(system: System, root: Client) -> None:
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


async def test_a_dead_letter_with_an_unreadable_request_is_shown_but_not_requeued(system: System, root: Client) -> None:
    job_id = await dead_letter(system)
    await system.core.client.set(system.core.keys.job(job_id).request, "{")

    shown = (await root.get(f"{ROOT}/{job_id}")).json()

    assert (shown["tenant"], shown["request"]) == ("alice", None)
    assert problem(await root.post(f"{ROOT}/{job_id}/requeue"))[1] == "broken_job"
    assert await ids(root) == [job_id]
