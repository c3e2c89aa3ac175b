"""A few hundred requests of a seed, and whether the watch over them would see a wrong answer."""

import json
from random import Random
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.fuzz.invariants import Stored, job_of, wrong_with
from tests.fuzz.raw import raw_request
from tests.fuzz.requests import Asked, Requests
from tests.fuzz.run import answer_call, run
from tests.support.client import Answer
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import Core, open_core

SEED, REQUESTS = 20261130, 600
GUARDED = [("x-content-type-options", "nosniff")]
OPENAI = {"error": {"message": "No.", "type": "a", "param": None, "code": "a"}}
PROBLEM = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "No.", "code": "a"}
PROBLEM_TYPE = ("content-type", "application/problem+json")


async def test_no_invariant_breaks_under_requests_of_any_form(settings: Settings) -> None:
    report = await run(settings.model_copy(update={"retention_s": 2.0}), seed=SEED, requests=REQUESTS)

    assert report.problems == []
    assert report.structured > REQUESTS / 2 and report.raw > REQUESTS / 10
    assert {200, 202, 400, 401, 403, 404} <= report.statuses.keys()
    assert "problems: 0" in report.table()


def test_a_seed_has_its_requests() -> None:
    def asked(seed: int) -> list[Any]:
        rng = Random(seed)
        requests = Requests(rng)
        return [(requests.next(), raw_request(rng)) for _ in range(50)]

    assert asked(1) == asked(1) != asked(2)


def answer(status: int, body: Any, *headers: tuple[str, str]) -> Answer:
    return Answer(status, [*GUARDED, *headers], body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/v1/models", answer(404, OPENAI)),
        ("/v1/jobs/a", answer(400, PROBLEM, PROBLEM_TYPE)),
        ("/nowhere", answer(400, PROBLEM, PROBLEM_TYPE)),
        ("/api/chat", answer(400, b"No.", ("content-type", "text/plain; charset=utf-8"))),
        ("/v1/models", answer(200, b"anything")),
    ],
)
def test_a_right_answer_passes(path: str, given: Answer) -> None:
    assert wrong_with(Asked("alice", "GET", path), given) is None


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/v1/models", answer(500, OPENAI)),
        ("/v1/models", answer(502, OPENAI)),
        ("/v1/models", answer(400, PROBLEM, PROBLEM_TYPE)),
        ("/v1/models", answer(400, b"No.")),
        ("/v1/models", answer(400, {"error": "No."})),
        ("/v1/jobs", answer(400, OPENAI)),
        ("/v1/jobs", answer(400, PROBLEM)),
        ("/v1/jobs", answer(404, PROBLEM, PROBLEM_TYPE)),
        ("/api/chat", answer(400, OPENAI)),
        ("/v1/models", answer(200, b"", ("x", "\x1b[2J"))),
        ("/v1/models", Answer(200, [], b"")),
    ],
)
def test_a_wrong_answer_is_seen(path: str, given: Answer) -> None:
    assert wrong_with(Asked("alice", "GET", path), given) is not None


async def test_the_fuzzer_sees_stored_keys_and_the_tenants_whose_keys_change(redis_url: str, key_prefix: str) -> None:
    async with open_core(redis_url, key_prefix) as core:
        await _see(core)


async def _see(core: Core) -> None:
    prefix = core.keys.prefix
    before = await Stored.now(core.client, prefix)
    await core.client.set(f"{prefix}:new", 1)
    await core.client.set(f"{prefix}:worker:a", 1)
    await core.client.set(core.keys.tenant_jobs("bob"), 1)
    after = await Stored.now(core.client, prefix)

    assert after.added_since(before) == sorted([f"{prefix}:new", core.keys.tenant_jobs("bob")])
    assert after.others_moved_since(before, "alice") == ["bob"]
    assert after.others_moved_since(before, "bob") == []


def test_the_job_of_an_answer_is_known() -> None:
    assert job_of(answer(400, OPENAI, ("x-tailrace-job", "job_1"))) == "job_1"
    assert job_of(answer(202, {"id": "job_2"})) == "job_2"
    assert job_of(answer(400, OPENAI)) is None


async def test_inputs_are_embedded_whatever_else_a_request_has() -> None:
    vectors = await ControlledProvider(answer_call).embed({"model": "mock", "input": ["a"], "messages": True})

    assert vectors.data
