"""A server that refuses: callers get a 503 that says when to come back, and jobs end once it serves again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from tests.support.refusals import PASSING, Refusing, without_the_right
from tests.support.system import System, ask, running_system, running_worker
from tests.support.valkey import running_valkey


@dataclass(frozen=True)
class Own:
    """A gateway on a server of its own."""

    system: System
    valkey: EmbeddedValkey
    folder: Path


@pytest.fixture
async def own(settings: Settings, tmp_path: Path) -> AsyncIterator[Own]:
    """Start servers that a test may break."""
    folder = tmp_path / "own-valkey"
    async with (
        running_valkey(folder) as valkey,
        running_system(settings.model_copy(update={"redis_url": valkey.url})) as system,
    ):
        yield Own(system, valkey, folder)


@pytest.mark.parametrize(("word", "refusing"), PASSING.items(), ids=PASSING)
async def test_a_request_to_a_server_that_cannot_serve_now_is_a_503_and_later_it_is_not(
    own: Own, word: str, refusing: Refusing
) -> None:
    client = own.system.client
    with captured_logs() as logs:
        async with refusing(own.system.core.client, own.valkey.url, own.folder):
            answers = [await client.post(path, ask()) for path in ("/v1/jobs", "/v1/chat/completions")]

    for answer in answers:
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert {line["error"] for line in logs.named("request.redis_unavailable")} <= {word, "READONLY"}
    assert (await client.post("/v1/jobs", ask())).status == 202


async def test_a_missing_right_is_a_503_whose_log_names_the_command(own: Own) -> None:
    with captured_logs() as logs:
        async with without_the_right(own.system.core.client, own.valkey.url, own.folder):
            answer = await own.system.client.post("/v1/jobs", ask())

    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert "NOPERM" not in answer.body.decode()
    (line,) = logs.named("request.redis_refuses")
    assert line["error"] == "NOPERM"
    assert line["reason"].startswith("Redis refuses the command FCALL (NOPERM ")


@pytest.mark.parametrize("more", [True, False], ids=["as more is coming", "as it ends"])
async def test_a_job_that_runs_while_its_rights_are_missing_ends_once_they_are_back(own: Own, more: bool) -> None:
    lost = "pump.redis_lost" if more else "worker.waits_for_redis"
    provider = ControlledProvider()
    async with running_worker(own.system.settings, provider):
        job_id = await own.system.submit()
        call = await provider.call()
        with captured_logs() as logs:
            async with without_the_right(own.system.core.client, own.valkey.url, own.folder):
                call.say("still ", "there")
                if not more:
                    call.end()
                await logs.wait_for(lost)
                if more:
                    call.end()
        story = await own.system.story(job_id)

    assert (story.types[-1], story.text) == ("completed", "still there")
    assert {line["error"] for line in logs.named(lost)} == {"NOPERM"}
