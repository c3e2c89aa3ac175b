"""Submit a job to `/v1/jobs` and read it, also while Redis is away or full.

Not here: a repeated request (test_job_idempotency.py).
"""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.model.errors import DeadlinePassed, ProviderRefused
from shared.model.events import decode_frame, split_frames
from shared.model.jobs import is_job_id
from shared.store.memory_watch import MemoryWatch
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.jobs_api import BODY, JOBS, jobs_in_lane, submit, submitted
from tests.support.log_writer import JobSide
from tests.support.valkey import running_valkey

# Submit and read.


async def test_a_job_is_accepted_with_everything_a_client_needs_to_continue(client: Client) -> None:
    answer = await submit(client, {**BODY, "timeout_s": 5, "metadata": {"colour": "blau 🌊"}})
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    job = answer.json()
    assert is_job_id(job["id"])
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["x-tailrace-job"] == job["id"]
    assert job["links"]["cancel"] == f"/v1/jobs/{job['id']}/cancel"
    assert re.fullmatch(rf"/v1/jobs/{job['id']}/events\?token=[\w-]{{32}}", job["links"]["events"])
    created, deadline = datetime.fromisoformat(job.pop("created_at")), datetime.fromisoformat(job.pop("deadline_at"))
    assert created.tzinfo == UTC
    assert (deadline - created).total_seconds() == 5
    assert {name: value for name, value in job.items() if name not in ("id", "links")} == {
        "object": "job",
        "kind": "chat",
        "status": "queued",
        "model": "scripted",
        "lane": "default",
        "started_at": None,
        "ended_at": None,
        "position": None,
        "on_disconnect": "continue",
        "viewers": 0,
        "abandon_at": None,
        "attempts": [],
        "last_event_id": "0-1",
        "metadata": {"colour": "blau 🌊"},
        "finish_reason": None,
        "usage": None,
        "tokens_saved": None,
        "progress": {"percent": 0, "stage": "queued", "message": None},
        "result": None,
        "error": None,
        "events": None,
        "sha256": None,
        "after": None,
        "released_at": None,
        "requeued_from": None,
        "requeued_as": None,
    }


async def test_an_accepted_job_is_recorded_and_queued(client: Client, writing: JobSide) -> None:
    """Invariant 1."""
    job_id = await submitted(client, temperature=0.5)
    assert await jobs_in_lane(writing) == [job_id]
    assert await writing.client.zscore(writing.keys.active, job_id) is not None
    (frame,) = split_frames(await writing.logged(job_id))
    assert decode_frame(frame).json() == {"job": job_id, "lane": "default", "position": 1}
    request = await writing.store.request(job_id)
    assert request == {**BODY, "temperature": 0.5}


async def test_fields_that_an_upstream_may_know_reach_it_as_they_are(client: Client, writing: JobSide) -> None:
    fields = {
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
        "guided_json": {"type": "object"},
        "provider": {"order": ["a"]},
        "safety_settings": [],
        "max_tokens": -1,
        "temperature": None,
    }
    job_id = await submitted(client, **fields)
    assert await writing.store.request(job_id) == {**BODY, **fields}


async def test_a_job_that_has_ended_shows_how(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("a", "b")
    await writer.complete()
    job = (await client.get(f"{JOBS}/{writer.job_id}")).json()
    end = decode_frame(list(split_frames(await writing.logged(writer.job_id)))[-1]).json()
    assert job["status"] == "completed"
    assert (len(job["attempts"]), job["last_event_id"], job["finish_reason"]) == (1, "1-4", "stop")
    assert (job["usage"], job["events"], job["sha256"]) == (end["usage"], 5, end["sha256"])
    assert job["error"] is None
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]


async def test_a_job_that_ended_badly_shows_why(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.fail(DeadlinePassed("It took too long."))
    job = (await client.get(f"{JOBS}/{writer.job_id}")).json()
    assert job["status"] == "expired"
    assert job["error"] == {
        "type": "job_error",
        "code": "deadline_passed",
        "message": "It took too long.",
        "retryable": False,
    }


async def test_half_a_character_in_a_providers_message_is_replaced(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.fail(ProviderRefused("cut \ud83c"))
    assert (await client.get(f"{JOBS}/{writer.job_id}")).json()["error"]["message"] == "cut \ufffd"


@pytest.mark.parametrize("job_id", ["job_0000000000000000000000000a", "job_x", "nonsense", "job_" + "l" * 26, "%00"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
async def test_an_unknown_job_is_not_found(client: Client, job_id: str, method: str, rest: str) -> None:
    answer = await client.request(method, f"{JOBS}/{job_id}{rest}")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "job_not_found"


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/cancel")])
async def test_another_tenants_job_answers_like_an_unknown_one(
    client: Client, writing: JobSide, method: str, rest: str
) -> None:
    """Invariant 11."""
    foreign, unknown = await writing.create(tenant="bob"), "job_0000000000000000000000000a"
    answers = [await client.request(method, f"{JOBS}/{job_id}{rest}") for job_id in (foreign, unknown)]
    assert [answer.status for answer in answers] == [404, 404]
    bodies = [answer.body.replace(foreign.encode(), unknown.encode()) for answer in answers]
    assert bodies[0] == bodies[1]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert (await writing.store.load(foreign)).status == "queued"


# Redis away.


async def test_without_redis_a_job_is_refused_with_a_time_to_return(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway:
            kept = await submitted(gateway.client)
            await valkey.stop()
            answers = [
                await submit(gateway.client),
                await gateway.client.get(f"{JOBS}/{kept}"),
                await gateway.client.get(JOBS),
                await gateway.client.post(f"{JOBS}/{kept}/cancel"),
            ]
            async with gateway.client.stream("GET", f"{JOBS}/{kept}/events") as events:
                # Any other status would close an EventSource for good.
                assert events.status == 200
                assert (await events.rest()).startswith(b"retry: ")
                assert not events.complete
            await valkey.start()
            for answer in answers:
                assert answer.status == 503
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["retry-after"] == "2"
                assert answer.json()["code"] == "redis_unavailable"
            assert (await gateway.client.get(f"{JOBS}/{kept}")).json()["status"] == "queued"
            assert (await submit(gateway.client)).status == 202


async def test_a_job_is_refused_if_redis_is_full(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(_: MemoryWatch) -> None:
        """Read later: the gateway does not know yet that the server is full."""

    monkeypatch.setattr(MemoryWatch, "check", not_yet)
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway:
            client = gateway.services.store._client
            await client.config_set("maxmemory", "1")
            answer = await submit(gateway.client)
            await client.config_set("maxmemory", "0")
            assert (answer.status, answer.json()["code"]) == (503, "redis_unavailable")
            assert (await submit(gateway.client)).status == 202


async def test_a_job_of_an_unreadable_version_answers_like_an_unknown_one(client: Client, writing: JobSide) -> None:
    job_id = await submitted(client)
    await writing.client.hset(writing.keys.job(job_id).record, "v", "99")  # type: ignore[misc]
    for key in ("sk-alice", "sk-bob"):
        answer = await client.as_(key).get(f"{JOBS}/{job_id}")
        assert answer.status == 404
        assert answer.json()["code"] == "job_not_found"
