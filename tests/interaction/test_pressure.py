"""Back-pressure: when Redis takes nothing, the provider's stream is read no further than the pump's bound."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import frozen
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey

BOUND = 16 * 1024
WORDS = [f"{number:05} {'x' * 500} " for number in range(2000)]
FRAME_BYTES = len(encode_frame(EventType.DELTA, encode_data({"content": WORDS[0]}), EventId(1, 1)))
# The frames that fit into the bound; the frame that fills it is the last one taken.
FITS = -(-BOUND // FRAME_BYTES)
# Bytes of the numbers in an id, which grow.
SLACK = 1
GAP_S = 1.0


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Start a server that may be frozen."""
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        yield valkey


@pytest.fixture
async def system(settings: Settings, own_valkey: EmbeddedValkey) -> AsyncIterator[System]:
    """Start a gateway on that server, for a worker with a small pump."""
    own = settings.model_copy(update={"redis_url": own_valkey.url, "pump_bytes": BOUND, "gap_timeout_s": GAP_S})
    async with running_system(own) as opened:
        yield opened


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the event loop's clock forward, at once."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return forward


async def settled(measure: Callable[[], int]) -> int:
    """Return the measure once nothing that this process can do by itself changes it any more."""
    before = -1
    while (now := measure()) != before:
        before = now
        for _ in range(200):
            await asyncio.sleep(0)
    return now


async def test_a_frozen_redis_stops_the_reading_of_the_provider_and_nothing_is_lost(
    system: System, own_valkey: EmbeddedValkey, pass_time: Callable[[float], None]
) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        with frozen(own_valkey) as thaw:
            call.say(*WORDS)
            call.end()
            pulled = await settled(lambda: call.pulled)
            # Longer than a provider may be silent: but it is not its silence.
            pass_time(2 * GAP_S)
            assert await settled(lambda: call.pulled) == pulled
            assert not call.closed
            thaw()
            story = await system.story(job_id)

    assert FITS - SLACK <= pulled <= FITS + SLACK
    assert story.types == ["queued", "started", *["delta"] * len(WORDS), "completed"]
    assert story.text == "".join(WORDS)


async def test_each_job_has_a_bound_of_its_own(system: System, own_valkey: EmbeddedValkey) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_ids = [await system.submit(model=f"m{number}") for number in range(5)]
        calls = [await provider.call_for(f"m{number}") for number in range(5)]
        with frozen(own_valkey) as thaw:
            for call in calls:
                call.say(*WORDS[:200])
                call.end()
            await settled(lambda: sum(call.pulled for call in calls))
            pulled = [call.pulled for call in calls]
            thaw()
            stories = [await system.story(job_id) for job_id in job_ids]

    assert all(FITS - SLACK <= each <= FITS + SLACK for each in pulled)
    assert [story.text for story in stories] == ["".join(WORDS[:200])] * 5


async def test_a_redis_without_room_holds_the_provider_back_until_there_is_some(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        await system.core.client.config_set("maxmemory", "1")
        call.say(*WORDS)
        call.end()
        pulled = await settled(lambda: call.pulled)
        await system.core.client.config_set("maxmemory", "0")
        story = await system.story(job_id)

    assert pulled <= FITS + SLACK
    assert story.text == "".join(WORDS)
