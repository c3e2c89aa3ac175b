"""Use npm's `@microsoft/fetch-event-source` in Chromium, for which it is made, as the README says.

The README's program runs as it stands there, on the gateway's own page; its events and its text are
compared with the job's log. Node does not stand in for the browser: a broken connection differs between them.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Request, Route

from tests.clients.browser import HEAL_S, PAGE_S, Visitor
from tests.clients.system import KEY, ObservedUpstream, System
from tests.clients.test_eventsource import IN_TWO_HALVES, PAUSE_S, TEXT, log_of, submit
from tests.clients.test_readme import blocks
from tests.support.processes import Processes, Running
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")

PACKAGE = "@microsoft/fetch-event-source"
# The package, with a copy of the messages that its caller gets.
OVERHEARD = """
import { fetchEventSource as real } from "/package/fetch.js";
export const fetchEventSource = (address, options) => real(address, {
  ...options,
  onmessage(message) { received.push([message.event, message.id, message.data]); options.onmessage(message); },
});
"""


class Reader:
    """The README's program in a page: `received` are the events that it got, `text` is the text that it built."""

    def __init__(self, page: Page, package: Path) -> None:
        self._page = page
        self._package = package
        self._asked: list[Request] = []
        page.on("request", self._on_request)

    async def read(self, job: dict[str, Any], key: str = KEY, cursor: str | None = None) -> None:
        """Begin to read this job, perhaps from a cursor."""
        events, example = blocks("js")
        (is_after,) = re.findall(r"^function isAfter.*?^}\n", events, re.MULTILINE | re.DOTALL)
        program = example.replace(PACKAGE, "/package/overheard.js")
        if cursor is not None:
            program = program.replace("headers: { ", f'headers: {{ "last-event-id": "{cursor}", ')
        program += is_after + 'globalThis.text = deltas.map((delta) => delta.text).join("");\n'
        served = {"/program.js": program, "/package/overheard.js": OVERHEARD}

        async def serve(route: Route) -> None:
            path = route.request.url.partition("://")[2].partition("/")[2]
            found = served.get(f"/{path}") or (self._package / Path(path).with_suffix(".js").name).read_text()
            await route.fulfill(body=found, content_type="text/javascript")

        await self._page.route(re.compile(r"/(program\.js|package/.+)$"), serve)
        await self._page.evaluate(
            """([job, key]) => {
              Object.assign(globalThis, { JOB: job, KEY: key, received: [], over: null });
              import("/program.js").then(() => (over = "read"), (error) => (over = String(error)));
            }""",
            [job["id"], key],
        )

    async def until(self, condition: str, *, within_s: float = PAGE_S) -> None:
        """Wait until this is so."""
        await self._page.wait_for_function(f"() => {condition}", timeout=within_s * 1000)

    async def is_over(self) -> str:
        """Wait until it reads no more: `read`, or the error."""
        await self.until("over", within_s=HEAL_S)
        return str(await self._page.evaluate("over"))

    async def show(self, visible: bool) -> None:
        """Let the tab go into the background, or come back."""
        await self._page.evaluate(
            """(hidden) => {
              Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            not visible,
        )

    async def received(self) -> list[list[Any]]:
        """Return all events that it got; a `retry:` line, which has none, is left out."""
        received: list[list[Any]] = await self._page.evaluate("received.filter(([event]) => event)")
        return received

    async def text(self) -> str:
        """Return the text that it built."""
        return str(await self._page.evaluate("text"))

    async def cursors(self) -> list[str | None]:
        """Return the `Last-Event-ID` of each of its requests."""
        return [(await request.all_headers()).get("last-event-id") for request in self._asked]

    def _on_request(self, request: Request) -> None:
        if "/events" in request.url:
            self._asked.append(request)


@pytest_asyncio.fixture(loop_scope="package")
async def gateway(processes: Processes, main_prefix: str, system: System) -> AsyncIterator[Running]:
    """Start a gateway of this test's own, with `system`'s worker behind it."""
    started = await processes.gateway(key_prefix=main_prefix)
    yield started
    await started.stop()


@pytest.fixture
def package(js: Path) -> Path:
    """Return the package's modules, as browsers have them."""
    return js / "node_modules" / PACKAGE / "lib" / "esm"


async def reader_at(visitor: Visitor, url: str, package: Path) -> Reader:
    return Reader((await visitor.open(url)).page, package)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_a_reader_continues_from_its_last_event_after_its_gateway_ended(
    visitor: Visitor, gateway: Running, system: System, package: Path, how: str
) -> None:
    reader = await reader_at(visitor, gateway.url, package)
    job = await submit(system, **{**IN_TWO_HALVES, "stall_s": PAUSE_S})
    await reader.read(job)
    await reader.until("received.length === 4")  # queued, started, and two deltas, while the upstream is silent
    last = (await reader.received())[-1][1]

    await (gateway.crash() if how == "SIGKILL" else gateway.stop())
    await gateway.start()

    assert await reader.is_over() == "read"
    assert await reader.text() == TEXT
    assert await reader.received() == await log_of(system, job)
    first, *others = await reader.cursors()
    assert (first, set(others)) == (None, {last})
    visitor.forgive("net::ERR_")


async def test_the_text_of_a_dead_worker_is_rolled_back(
    processes: Processes, upstream: ObservedUpstream, visitor: Visitor, package: Path
) -> None:
    prefix = fresh_prefix()
    worker = {"key_prefix": prefix, "upstream_url": upstream.base_url, "lease_s": 0.5}
    gateway, first = await asyncio.gather(processes.gateway(key_prefix=prefix), processes.worker(**worker))
    system = System(gateway.url, upstream)
    reader = await reader_at(visitor, gateway.url, package)
    job = await submit(system, **{**IN_TWO_HALVES, "stall_s": PAUSE_S})
    await reader.read(job)
    await reader.until("received.length === 4")

    await first.crash()
    await processes.worker(**worker)

    assert await reader.is_over() == "read"
    assert await reader.text() == TEXT
    assert await reader.received() == await log_of(system, job)
    assert "rollback" in [event for event, *_ in await reader.received()]


async def test_a_tab_in_the_background_releases_and_returns(visitor: Visitor, system: System, package: Path) -> None:
    reader = await reader_at(visitor, system.url, package)
    job = await submit(system, **{**IN_TWO_HALVES, "stall_s": PAUSE_S})
    await reader.read(job)
    await reader.until("received.length === 4")

    await reader.show(False)
    last = (await reader.received())[-1][1]
    await system.end_of(job["id"])
    assert len(await reader.received()) == 4
    await reader.show(True)

    assert await reader.is_over() == "read"
    assert await reader.text() == TEXT
    assert await reader.received() == await log_of(system, job)
    assert await reader.cursors() == [None, last]


async def test_a_reader_stops_if_nothing_follows_its_cursor(visitor: Visitor, system: System, package: Path) -> None:
    reader = await reader_at(visitor, system.url, package)
    job = await submit(system, text=TEXT)
    end = await system.end_of(job["id"])

    await reader.read(job, cursor=str(end.id))

    assert await reader.is_over() == "read"
    assert (await reader.received(), await reader.cursors()) == ([], [str(end.id)])


async def test_a_refused_request_is_not_retried(visitor: Visitor, system: System, package: Path) -> None:
    reader = await reader_at(visitor, system.url, package)
    job = await submit(system, text=TEXT)

    await reader.read(job, key="sk-bob")

    assert await reader.is_over() == "Error: HTTP 404"
    assert await reader.cursors() == [None]
    visitor.forgive("404 (Not Found)")
