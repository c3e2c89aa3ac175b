"""Use plain `EventSource` (WHATWG HTML §9.2), as Chromium has it, on a job's `links.events`: no library, header or key.

It runs on the gateway's own page, under that page's policy. Its events are compared with those of another client.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import JSHandle, Page, Response

from tests.clients.browser import HEAL_S, PAGE_S, Visitor
from tests.clients.system import System
from tests.support.processes import Processes, Running
from tests.support.upstream import ask

pytestmark = pytest.mark.asyncio(loop_scope="package")

# \u2028 ends a line for some clients, but not in an event stream.
TEXT = "one two \u2028 three\n\nid: 0-1\nevent: completed\n\nfour naïve 🌊 five"
PAUSE_S = 3.0
"""The pause between the halves of an answer. A page must see the first half within it, also on a busy machine."""
IN_TWO_HALVES = {"text": TEXT, "fault": "stall", "after": 2, "stall_s": 5.0}

# Opens an EventSource that never closes by itself, and keeps all it hears as [name, id, data]; faults as ["error", its
# readyState, null].
LISTEN = """(url) => {
  const source = new EventSource(url);
  const received = [];
  const hear = ({ type, lastEventId, data }) => received.push([type, lastEventId, data]);
  for (const name of ["message", "queued", "started", "delta", "rollback", "gap", "completed", "failed", "cancelled"])
    source.addEventListener(name, hear);
  source.onerror = () => received.push(["error", source.readyState, null]);
  return { source, received };
}"""
CONNECTING, CLOSED = 0, 2


class Listener:
    """An EventSource in a page, and the answers it gets."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._handle: JSHandle | None = None
        self._answers: list[Response] = []
        page.on("response", self._on_response)

    async def listen(self, url: str) -> None:
        """Open it."""
        self._handle = await self._page.evaluate_handle(LISTEN, url)

    async def until(self, condition: str, *, within_s: float = PAGE_S) -> None:
        """Wait until this holds of its `source` and its events, `received`."""
        await self._page.wait_for_function(
            f"({{ source, received }}) => {condition}", arg=self._handle, timeout=within_s * 1000
        )

    async def received(self) -> list[list[Any]]:
        """Return all it has received, see `LISTEN`."""
        received: list[list[Any]] = await self._page.evaluate("({ received }) => received", self._handle)
        return received

    async def events(self) -> list[list[Any]]:
        """Return the events it has received."""
        return [each for each in await self.received() if each[0] != "error"]

    async def faults(self) -> list[int]:
        """Return the `readyState` at each fault."""
        return [state for name, state, _ in await self.received() if name == "error"]

    async def answers(self) -> list[tuple[str | None, int]]:
        """For each request that was answered: its `Last-Event-ID`, and the status."""
        return [((await answer.request.all_headers()).get("last-event-id"), answer.status) for answer in self._answers]

    def _on_response(self, response: Response) -> None:
        if "/events" in response.url:
            self._answers.append(response)


@pytest_asyncio.fixture(loop_scope="package")
async def gateway(processes: Processes, system: System, main_prefix: str) -> AsyncIterator[Running]:
    """Start a gateway of this test's own, with `system`'s worker behind it."""
    started = await processes.gateway(key_prefix=main_prefix)
    yield started
    await started.stop()


async def submit(system: System, **script: Any) -> dict[str, Any]:
    answer = await system.client.post("/v1/jobs", ask(**script))
    assert answer.status == 202
    job: dict[str, Any] = answer.json()
    return job


async def log_of(system: System, job: dict[str, Any]) -> list[list[Any]]:
    """Return the job's events, read to the end by another client."""
    async with system.client.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        return [[event.type.value, str(event.id), event.data.decode()] for event in await response.events()]


async def test_named_events_come_live_with_their_ids_and_exact_data(visitor: Visitor, system: System) -> None:
    listener = Listener((await visitor.open(system.url)).page)
    job = await submit(system, **{**IN_TWO_HALVES, "stall_s": PAUSE_S})

    await listener.listen(job["links"]["events"])

    await listener.until("received.length === 4")  # queued, started, and two deltas, while the upstream is silent
    await listener.until("received.some(([name]) => name === 'completed')")
    events = await listener.events()
    assert events == await log_of(system, job)
    assert "".join(json.loads(data)["content"] for name, _, data in events if name == "delta") == TEXT
    assert await listener.answers() == [(None, 200)]


async def test_a_reconnect_after_the_end_gets_204_and_stops(visitor: Visitor, system: System) -> None:
    listener = Listener((await visitor.open(system.url)).page)
    job = await submit(system, text=TEXT)

    await listener.listen(job["links"]["events"])

    await listener.until(f"source.readyState === {CLOSED}", within_s=HEAL_S)
    assert await listener.events() == await log_of(system, job)
    assert await listener.faults() == [CONNECTING, CLOSED]
    assert await listener.answers() == [(None, 200), ((await listener.events())[-1][1], 204)]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_a_reader_continues_from_its_last_event_after_its_gateway_ended(
    visitor: Visitor, gateway: Running, system: System, how: str
) -> None:
    listener = Listener((await visitor.open(gateway.url)).page)
    job = await submit(system, **IN_TWO_HALVES)
    await listener.listen(job["links"]["events"])
    await listener.until("received.length === 4")
    last = (await listener.events())[-1][1]

    await asyncio.gather(
        listener.until("received.some(([name]) => name === 'error')"),
        gateway.crash() if how == "SIGKILL" else gateway.stop(),
    )
    await gateway.start()

    await listener.until("received.some(([name]) => name === 'completed')", within_s=HEAL_S)
    assert await listener.events() == await log_of(system, job)
    assert await listener.answers() == [(None, 200), (last, 200)]
    assert set(await listener.faults()) == {CONNECTING}
    visitor.forgive("net::ERR_")


async def test_a_link_that_was_tampered_with_closes_it_for_good(visitor: Visitor, system: System) -> None:
    listener = Listener((await visitor.open(system.url)).page)
    mine, other = await submit(system, text=TEXT), await submit(system, text="secret")
    token = mine["links"]["events"].partition("?")[2]

    await listener.listen(f"/v1/jobs/{other['id']}/events?{token}")

    await listener.until(f"source.readyState === {CLOSED}")
    assert await listener.events() == []
    assert await listener.answers() == [(None, 401)]
    visitor.forgive("401 (Unauthorized)")
