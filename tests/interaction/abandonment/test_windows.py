"""Test that a job whose viewer leaves is given up: on every route, in every window, however the viewer leaves."""

import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable

import pytest

from shared.process.child import start_child
from tests.interaction.abandonment.routes import ROUTES, STREAMS, Route, the_job
from tests.interaction.abandonment.states import SMALL, is_blocked, is_given_up, speaks
from tests.support.client import Response
from tests.support.gateway import until
from tests.support.system import System, running_worker
from tests.support.upstream import Upstream

LEAVE: dict[str, Callable[[Response], None]] = {"FIN": Response.close, "RST": Response.reset}


def by_name(routes: dict[str, Route]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("route", routes.values(), ids=routes)


ways = pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)


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
