"""Accept text from callers and upstreams, at every entry: no text steers a terminal, and no text is stored torn."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.telemetry.logs import configure_logs
from tests.support.client import Answer, Client
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.system import System, ask, running_system, running_worker

HOSTILE = "\x1b[2J\x9b\x07\u202e\u2066\u2028\r\n2026-11-30 forged\x7f"
IN_PATH = quote(HOSTILE) + "%ff%ed%a0%80"
PATHS = (
    f"/{IN_PATH}",
    f"/v1/models/{IN_PATH}",
    f"/v1/jobs/{IN_PATH}",
    f"/v1/jobs/{IN_PATH}/events?token={IN_PATH}&last_event_id={IN_PATH}",
    f"/v1/jobs?status={IN_PATH}&after={IN_PATH}",
    f"/v1/responses/{IN_PATH}",
    f"/v1/chat/completions/{IN_PATH}",
    f"/api/chat/{IN_PATH}/stream",
    f"/web/{IN_PATH}",
)
HEADER = "\x9b2J\x85x"
PAGE = [{"id": HOSTILE, "role": "user", "parts": [{"type": "text", "text": HOSTILE}]}]
BODIES: tuple[tuple[str, Any], ...] = (
    ("/v1/jobs", ask(HOSTILE, model=HOSTILE)),
    ("/v1/jobs", ask(metadata={HOSTILE: HOSTILE, "a": HOSTILE})),
    ("/v1/jobs", {**ask(), HOSTILE: 1}),
    ("/v1/jobs", ask(lane=HOSTILE)),
    ("/v1/jobs", {"kind": HOSTILE}),
    ("/v1/chat/completions", ask(HOSTILE, user=HOSTILE, stream=True)),
    ("/v1/chat/completions", ask(tools=[{"type": HOSTILE}])),
    ("/v1/responses", {"model": "mock", "input": HOSTILE, "previous_response_id": HOSTILE}),
    ("/v1/responses", {"model": "mock", "input": [{"type": "item_reference", "id": HOSTILE}]}),
    ("/v1/responses", {"model": "mock", "input": HOSTILE, "metadata": {HOSTILE: HOSTILE}}),
    ("/v1/embeddings", {"model": "mock", "input": HOSTILE, HOSTILE: 1}),
    ("/api/chat", {"id": HOSTILE, "model": "mock", "messages": PAGE}),
    ("/api/chat", {"id": "c", "model": HOSTILE, "messages": PAGE}),
)


def refuse(call: Call) -> None:
    """Fail with words that no one may show."""
    call.fail(ProviderRefused(HOSTILE + "\ud800", code="provider_error", param="\udfff"))


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway, and a worker of a provider that refuses everything with a hostile text."""
    async with running_system(settings) as system, running_worker(settings, ControlledProvider(refuse)):
        yield system


@contextmanager
def logged(log_format: str) -> Iterator[None]:
    """Configure the log as a process does; restore this process's logging afterwards."""
    root = logging.getLogger()
    handlers, level, former = root.handlers[:], root.level, structlog.get_config()
    log = configure_logs("info", log_format)
    try:
        yield
    finally:
        log.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**former)


async def everything(client: Client) -> list[Answer]:
    """Knock at every door with hostile text, with a key and without one."""
    answers = []
    for caller in (client, client.as_(None)):
        cursor = {"X-Request-Id": HEADER, "Last-Event-ID": HEADER}
        answers += [await caller.get(path, headers=cursor) for path in PATHS]
        for path, body in BODIES:
            headers = {"Content-Type": "application/json", "Idempotency-Key": HEADER, "X-Tailrace-Lane": HEADER}
            answers.append(await caller.post(path, body, headers=headers))
            answers.append(await caller.post(path, body))
    return answers


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_no_log_holds_a_character_that_steers(
    system: System, capfd: pytest.CaptureFixture[str], log_format: str
) -> None:
    with logged(log_format):
        answers = await everything(system.client)

    said = capfd.readouterr().err
    assert len([line for line in said.splitlines() if "path" in line]) >= len(answers)
    assert all(char.isprintable() or char == "\n" for char in said)
    assert not any(line.startswith("2026-11-30 forged") for line in said.splitlines())
    if log_format == "json":
        for line in said.splitlines():
            json.dumps(json.loads(line), ensure_ascii=False).encode()


async def test_no_answer_is_a_crash_or_holds_a_control_character(system: System) -> None:
    for answer in await everything(system.client):
        assert answer.status != 500, answer.body
        text = answer.body.decode()
        assert "\x1b" not in text and "\x9b" not in text
        assert all("\x1b" not in value and "\x9b" not in value for _, value in answer.raw_headers)


async def test_a_job_ends_and_is_shown_with_any_text_of_its_upstream(system: System) -> None:
    job_id = await system.submit(metadata={"a": HOSTILE})
    await system.over(job_id)
    root = system.client.as_("sk-root")

    for path in (f"/v1/jobs/{job_id}", "/v1/jobs"):
        answer = await system.client.get(path)
        assert answer.status == 200
        json.dumps(answer.json(), ensure_ascii=False).encode()
    for path in ("/v1/dead-letters", f"/v1/dead-letters/{job_id}"):
        answer = await root.get(path)
        assert answer.status == 200
        json.dumps(answer.json(), ensure_ascii=False).encode()
    requeued = await root.post(f"/v1/dead-letters/{job_id}/requeue")
    assert requeued.status in (200, 201, 202), requeued.body
