"""Give up a job without viewers and close its upstream's socket: on every route, in every window, however they leave.
A job with a viewer is not given up."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.model.jobs import VIEWER_LEASE_S, Abandonment, OnDisconnect
from shared.model.lifecycle import State
from shared.process.child import start_child
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.server_check import RedisServer, server_of
from tests.support.client import TIMEOUT_S, Client, Response
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from tests.support.gateway import running_gateway, until
from tests.support.log_writer import JobSide
from tests.support.processes import Processes
from tests.support.system import System, running_system, running_worker
from tests.support.upstream import Upstream, running_upstream
from tests.support.valkey import running_valkey

SOON = {"X-Tailrace-Abandon-After": "0.2"}
LONG_S = 60.0
# A receive buffer that is full at once.
SMALL = 4096


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Provide a real socket to close."""
    async with running_upstream() as opened:
        yield opened


@pytest.fixture
def settings(settings: Settings, upstream: Upstream) -> Settings:
    """Make settings in which no time-out can replace an abandonment; headers go out with the first token."""
    long_waits = {"first_token_timeout_s": 300.0, "gap_timeout_s": 300.0, "headers_hold_s": 300.0}
    return settings.model_copy(update={"upstream_url": upstream.base_url, "send_timeout_s": 300.0, **long_waits})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


# How a job is asked for, and read.


def words(**script: Any) -> list[dict[str, Any]]:
    """Make a chat's messages, with the script of the upstream."""
    return [{"role": "user", "content": json.dumps({"script": script})}]


def chat(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": words(**script), "stream": True}


def whole_chat(**script: Any) -> dict[str, Any]:
    return {**chat(**script), "stream": False}


def native(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": words(**script), "on_disconnect": "cancel"}


def response(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "input": words(**script)[0]["content"], "stream": True}


def whole_response(**script: Any) -> dict[str, Any]:
    return {**response(**script), "stream": False}


def background(**script: Any) -> dict[str, Any]:
    return {**response(**script), "stream": False, "background": True}


def background_stream(**script: Any) -> dict[str, Any]:
    return {**response(**script), "background": True}


def page(**script: Any) -> dict[str, Any]:
    said = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": words(**script)[0]["content"]}]}
    return {"model": "scripted", "id": "c1", "messages": [said], "trigger": "submit-message"}


@dataclass(frozen=True)
class Route:
    """A way to read a job: `asked` at `path`; if another call reads it, that is a `GET` of `read`."""

    path: str
    asked: Callable[..., dict[str, Any]]
    headers: dict[str, str]
    read: str | None = None
    asker_reads: bool = True

    async def open(self, system: System, receive_buffer: int | None = None, **script: Any) -> Response:
        """Return the only reader of a new job."""
        client, readers = system.client, system.gateway.services.hub
        body = self.asked(**script)
        asker = await client.send(
            "POST", self.path, json_body=body, headers=self.headers, receive_buffer=receive_buffer
        )
        job_id = await the_job(system)
        if self.read is None:
            reader = asker
        else:
            target = self.read.format(job=job_id, bare=job_id.removeprefix("job_"))
            reader = await client.send("GET", target, receive_buffer=receive_buffer)
            await until(lambda: len(readers.readers) == 1 + self.asker_reads)
            asker.close()
        await until(lambda: len(readers.readers) == 1)
        return reader


async def the_job(system: System) -> str:
    """Return the only job, once it is there."""
    async with asyncio.timeout(TIMEOUT_S):
        while not (jobs := (await system.client.get("/v1/jobs")).json()["data"]):
            pass
    job_id: str = jobs[0]["id"]
    return job_id


async def speaks(system: System) -> None:
    """Wait until the only job has said something."""
    job_id = await the_job(system)
    async with asyncio.timeout(TIMEOUT_S):
        while (await system.core.tails(job_id))[0].seq < 5:
            pass


CHAT, RESPONSES, PAGE = "/v1/chat/completions", "/v1/responses", "/api/chat"
STREAMS = {
    "events": Route("/v1/jobs", native, {}, "/v1/jobs/{job}/events", asker_reads=False),
    "chat": Route(CHAT, chat, {}),
    "chat again": Route(CHAT, chat, {}, CHAT + "/chatcmpl-{bare}?stream=true"),
    "response": Route(RESPONSES, response, {}),
    "background response": Route(RESPONSES, background_stream, SOON),
    "response again": Route(RESPONSES, background, SOON, RESPONSES + "/resp_{bare}?stream=true", asker_reads=False),
    "page": Route(PAGE, page, SOON),
    "page again": Route(PAGE, page, SOON, PAGE + "/c1/stream"),
}
WHOLE = {
    "whole chat": Route(CHAT, whole_chat, {}),
    "whole chat again": Route(CHAT, whole_chat, {}, CHAT + "/{job}"),
    "whole response": Route(RESPONSES, whole_response, {}),
}
ROUTES = STREAMS | WHOLE
LEAVE: dict[str, Callable[[Response], None]] = {"FIN": Response.close, "RST": Response.reset}


def by_name(routes: dict[str, Route]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("route", routes.values(), ids=routes)


ways = pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)


async def is_given_up(system: System, upstream: Upstream) -> dict[str, Any]:
    """Wait until the upstream's socket is closed, and the job has its end; that end."""
    await upstream.until(lambda: upstream.closed == 1 and upstream.sockets == 0)
    job_id = await the_job(system)
    await system.over(job_id)
    story = await system.story(job_id)
    assert (story.types[-1], story.code) == ("cancelled", "abandoned")
    assert await system.queue_keys(job_id) == []
    return story.end


# In every window.


@ways
@by_name(ROUTES)
async def test_before_the_first_token(
    system: System, upstream: Upstream, route: Route, leave: Callable[[Response], None]
) -> None:
    async with running_worker(system.settings):
        reader = await route.open(system, fault="hang")
        await upstream.request()
        leave(reader)
        end = await is_given_up(system, upstream)
    assert end["usage"] is None


@ways
@by_name(ROUTES)
async def test_in_mid_token(
    system: System, upstream: Upstream, route: Route, leave: Callable[[Response], None]
) -> None:
    async with running_worker(system.settings):
        reader = await route.open(system, tokens=1_000_000, rate=200)
        await speaks(system)
        leave(reader)
        end = await is_given_up(system, upstream)
    assert end["usage"]["source"] == "partial"


@ways
@by_name(STREAMS)
async def test_while_the_write_is_blocked(
    system: System, upstream: Upstream, route: Route, leave: Callable[[Response], None]
) -> None:
    async with running_worker(system.settings):
        reader = await route.open(system, SMALL, tokens=1_000_000)
        await is_blocked(system)
        leave(reader)
        await is_given_up(system, upstream)


async def is_blocked(system: System) -> None:
    """Wait until the only reader takes nothing more."""
    (reader,) = system.gateway.services.hub.readers
    since: list[float | None] = []
    # The same send, at many checks in a row.
    async with asyncio.timeout(2 * TIMEOUT_S):
        while len(since) < 100 or None in since or len(set(since)) > 1:
            since = [*since[-99:], reader.sending_since]
            await asyncio.sleep(0.001)


@by_name(ROUTES)
async def test_while_it_waits(system: System, route: Route) -> None:
    reader = await route.open(system)
    job_id = await the_job(system)
    await system.core.client.zrem(system.lane, job_id)  # no worker takes it: the reaper has it alone
    await system.forgo_reconciling()
    reader.close()
    await until(lambda: system.gateway.services.hub.readers == [])
    async with running_worker(system.settings):
        await system.over(job_id)
        story = await system.story(job_id)
    assert (story.types, story.code) == (["queued", "cancelled"], "abandoned")


@pytest.mark.parametrize("route", ["events", "chat", "whole response"])
async def test_when_the_viewers_process_is_killed(system: System, upstream: Upstream, route: str) -> None:
    """The child holds the connection that the test opened; the test closes its own end."""
    async with running_worker(system.settings):
        reader = await ROUTES[route].open(system, tokens=1_000_000, rate=200)
        await speaks(system)
        program = "import sys, time; print('ready', flush=True); time.sleep(60)"
        child = await start_child([sys.executable, "-c", program], output=PIPE, pass_fds=[reader._sock.fileno()])
        assert child.stdout is not None
        await child.stdout.readline()
        reader.close()
        child.send_signal(signal.SIGKILL)
        await child.communicate()
        await is_given_up(system, upstream)


# Gateways.


async def test_two_viewers_at_two_gateways_count_as_two(system: System, upstream: Upstream) -> None:
    async with running_gateway(system.settings) as other, running_worker(system.settings):
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        target = f"/v1/jobs/{job_id}/events"
        one = await system.client.send("GET", target)
        two = await other.client.send("GET", target)
        await viewed_by(system, job_id, 2)
        one.close()
        await viewed_by(system, job_id, 1)
        await others_are_given_up(system)
        assert (await system.job(job_id)).status is State.RUNNING
        two.close()
        await upstream.until(lambda: upstream.closed == 1)
        assert (await system.over(job_id)).outcome["error"]["code"] == "abandoned"


async def viewed_by(system: System, job_id: str, viewers: int) -> dict[str, Any]:
    """Wait until the job is shown with so many viewers; how it is shown."""
    async with asyncio.timeout(TIMEOUT_S):
        while (shown := (await system.client.get(f"/v1/jobs/{job_id}")).json())["viewers"] != viewers:
            pass
    return dict(shown)


async def others_are_given_up(system: System) -> None:
    """Wait until the reaper has given up another job, which was due after all that is due now."""
    # It is in no lane: a worker that took it first would have the upstream count one more stream that was closed.
    other = await system.core.queued(abandonment=Abandonment(OnDisconnect.CANCEL, first_viewer_timeout_s=60.0))
    await system.write(other, abandon_at=1)
    await system.core.client.zadd(system.core.keys.active, {other: 0})
    await system.over(other)


async def test_a_gateway_that_is_killed_takes_its_viewers_along_after_their_lease(
    system: System, upstream: Upstream
) -> None:
    async with Processes(system.settings) as processes, running_worker(system.settings):
        gateway = await processes.gateway()
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        client = Client(int(gateway.url.rpartition(":")[2]))
        async with client.stream("GET", f"/v1/jobs/{job_id}/events") as reader:
            await viewed_by(system, job_id, 1)
            await gateway.crash()
            await reader.rest()
            assert reader.complete is False
        await others_are_given_up(system)
        assert (await viewed_by(system, job_id, 1))["abandon_at"] is None
        await lease_passes(system, job_id)
        await upstream.until(lambda: upstream.closed == 1)
        assert (await system.over(job_id)).outcome["error"]["code"] == "abandoned"


async def lease_passes(system: System, job_id: str) -> None:
    """Age the viewers' signs and the abandonment's time by one lease; the gateway does not renew them."""
    keys, age_ms = system.core.keys.job(job_id), int(VIEWER_LEASE_S * 1000)
    for gateway in await system.core.client.zrange(keys.viewers, 0, -1):
        await system.core.client.zincrby(keys.viewers, -age_ms, gateway)
    await system.core.client.hincrby(keys.record, "abandon_at", -age_ms)  # type: ignore[misc]
    await system.check_next(job_id)


# Jobs that are not given up.


async def test_a_page_that_is_loaded_again_in_time_cancels_nothing(settings: Settings, upstream: Upstream) -> None:
    long_waits = settings.model_copy(update={"disconnect_grace_s": LONG_S})
    async with running_system(long_waits) as system, running_worker(long_waits):
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        for _ in range(3):
            async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
                assert (await viewed_by(system, job_id, 1))["abandon_at"] is None
            assert (await viewed_by(system, job_id, 0))["abandon_at"] is not None
        await others_are_given_up(system)
        assert (await system.job(job_id)).status is State.RUNNING
        assert upstream.closed == 0


async def test_a_connected_reader_who_takes_nothing_is_there(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        reader = await STREAMS["events"].open(system, SMALL, tokens=1_000_000)
        await is_blocked(system)
        job_id = await the_job(system)
        await system.check_next(job_id)
        await others_are_given_up(system)
        assert (await viewed_by(system, job_id, 1))["status"] == "running"
        assert upstream.closed == 0
        reader.close()
        await upstream.until(lambda: upstream.closed == 1)


@pytest.mark.parametrize("fields", [{}, {"on_disconnect": "continue"}], ids=str)
async def test_a_job_that_did_not_ask_for_it_continues(system: System, fields: dict[str, Any]) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(**fields)
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
            call = await provider.call()
        shown = await viewed_by(system, job_id, 0)
        assert (shown["on_disconnect"], shown["abandon_at"]) == ("continue", None)
        await others_are_given_up(system)
        call.end()
        assert (await system.story(job_id)).types[-1] == "completed"


async def test_a_viewer_who_comes_while_it_is_given_up_is_told_its_end(system: System, writing: JobSide) -> None:
    job_id = await system.submit(native())
    writer = await writing.begin(job_id)
    await writer.say("Hello")
    await system.write(job_id, abandon_at=1)
    assert await system.core.store.abandon(job_id, 0) == "cancelling"
    async with system.reading(job_id) as read:
        assert [(await read()).type for _ in range(3)] == [EventType.QUEUED, EventType.STARTED, EventType.DELTA]
        await system.check_next(job_id)
        async with running_worker(system.settings):
            end = await read()
    assert (end.type, end.json()["error"]["code"]) == (EventType.CANCELLED, "abandoned")


async def test_every_answer_that_shows_a_job_shows_its_viewers(system: System) -> None:
    key, body = {"Idempotency-Key": "once"}, native()
    job_id = (await system.client.post("/v1/jobs", body, headers=key)).json()["id"]
    await system.core.begin(job_id)
    async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
        await viewed_by(system, job_id, 1)
        again = (await system.client.post("/v1/jobs", body, headers=key)).json()
        (listed,) = (await system.client.get("/v1/jobs")).json()["data"]
        cancelled = await system.cancel(job_id)
    assert cancelled["status"] == "cancelling"  # it has no worker
    assert [shown["viewers"] for shown in (again, listed, cancelled)] == [1, 1, 1]


# Jobs that never had a viewer.


async def test_a_job_that_nobody_ever_reads_has_its_time_from_submit(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit({**native(tokens=1_000_000, rate=200), "abandon_after_s": 0.3})
        await upstream.until(lambda: upstream.closed == 1)
        job = await system.over(job_id)
    assert job.outcome["error"]["code"] == "abandoned"
    assert job.abandon_ms - job.created_ms == 300


async def test_the_first_viewer_has_a_lease_to_come(system: System) -> None:
    job = await system.job(await system.submit(native()))
    assert job.abandon_ms - job.created_ms == VIEWER_LEASE_S * 1000
    shown = (await system.client.get(f"/v1/jobs/{job.id}")).json()
    assert (shown["on_disconnect"], shown["viewers"]) == ("cancel", 0)
    assert shown["abandon_at"] > shown["created_at"]


async def test_a_caller_of_a_background_response_who_does_not_read_it_is_no_viewer(system: System) -> None:
    answer = await system.client.post(RESPONSES, background(), headers=SOON)
    shown = (await system.client.get(f"/v1/jobs/{answer.headers['x-tailrace-job']}")).json()
    assert (shown["viewers"], shown["on_disconnect"]) == (0, "continue")
    assert answer.json()["background"] is True
    assert shown["abandon_at"] is not None


# After an outage.


def aged(up_s: float) -> Any:
    """Return a function that describes a server that has been up for so long."""

    async def server(side: Queue | JobRecords) -> RedisServer:
        return replace(await server_of(side._client), up_s=up_s)

    return server


@pytest.mark.parametrize("up_s", [0.0, VIEWER_LEASE_S])
async def test_on_a_server_that_has_just_returned_viewers_first_have_a_lease(
    system: System, monkeypatch: pytest.MonkeyPatch, up_s: float
) -> None:
    for side in (Queue, JobRecords):
        monkeypatch.setattr(side, "server", aged(up_s))
    settings = system.settings.model_copy(update={"lease_s": 0.5})
    job_id = await system.submit(native())
    await system.write(job_id, abandon_at=1)
    await system.core.age(job_id, LONG_S)
    async with running_worker(settings, ControlledProvider()):
        await others_are_given_up(system)
        await system.check_next(job_id)
        await others_are_given_up(system)
        given_up = (await system.job(job_id)).status in (State.CANCELLING, State.CANCELLED)
    assert given_up is (up_s > 0)


async def test_viewers_whom_an_outage_kept_from_showing_themselves_are_still_there(
    settings: Settings, tmp_path: Path
) -> None:
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 0.5, "redis_patience_s": 60.0})
        provider = ControlledProvider()
        async with running_system(own) as system, running_worker(own, provider):
            job_id = await system.submit(native())
            async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
                await provider.call()
                await viewed_by(system, job_id, 1)
                with captured_logs() as logs:
                    await valkey.stop()
                    await logs.wait_for("reaper.redis_lost")
                    await valkey.start()
                    await logs.wait_for("reaper.redis_back")
                await lease_passes(system, job_id)
                await lease_passes(system, job_id)
                await others_are_given_up(system)
                assert (await system.job(job_id)).status is State.RUNNING


# Tokens that abandonment saves.


async def test_an_abandoned_job_says_what_it_saved(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        body = {**native(tokens=9, fault="stall", after=3), "max_tokens": 100}
        job_id = await system.submit(body)
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events") as reader:
            await reader.frames(5)
        end = await is_given_up(system, upstream)
        shown = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    assert (end["usage"]["completion_tokens"], end["tokens_saved"], shown["tokens_saved"]) == (3, 97, 97)


async def test_one_without_a_limit_would_have_been_as_long_as_its_models_answers(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        first = await system.submit()
        (await provider.call()).end(usage={"prompt_tokens": 1, "completion_tokens": 500})
        assert (await system.story(first)).end.get("tokens_saved") is None
        second = await system.submit(on_disconnect="cancel")
        call = await provider.call(1)
        call.say("a", "b")
        await system.until(second, EventType.DELTA, 2)
        job = await system.over(second)
    assert job.outcome["tokens_saved"] == 498


async def test_what_was_saved_is_counted(system: System) -> None:
    async with running_worker(system.settings, ControlledProvider()) as worker:
        await worker.ready()
        job_id = await system.submit({**native(), "max_completion_tokens": 50, "abandon_after_s": 0.1})
        await system.over(job_id)
    text = (await system.client.as_("sk-root").get("/metrics")).body.decode()
    saved = [line for line in text.splitlines() if line.startswith("tailrace_tokens_saved_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in saved) == 50
    assert "tailrace_jobs_ended_total{" in text and 'code="abandoned"' in text


async def test_a_cancelled_job_saved_nothing_that_anybody_counts(system: System) -> None:
    job_id = await system.submit({**native(), "max_tokens": 100})
    assert (await system.cancel(job_id))["tokens_saved"] is None
