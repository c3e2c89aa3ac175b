"""The measurements: each scenario puts a load on the testbed and notes its rows in the results.

The ways to ask for a stream (direct, chat, native, a peer) alternate within each round, so that a noisy machine is
noisy for all of them. Budgets are those of the design. Not here: the load (generator.py), processes, and the count of
CPU and memory (testbed.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from tests.load.beside import compare
from tests.load.bursts import burst, lane
from tests.load.caller import Broken
from tests.load.generator import Hearing, SteadyLoad, leave, paced, steady, submit, unpaced
from tests.load.mock_upstream import Order
from tests.load.notes import note_cpu, note_heard
from tests.load.results_table import Budget, ResultsTable
from tests.load.sizes import Size
from tests.load.testbed import LoadTestbed, cpu_s, resident_bytes

RATE: Final = 50.0
"""Tokens a second of a paced stream."""
_CROWD_RATE: Final = 10.0
_SHORT: Final = 5
_AT_ONCE: Final = 20
_CONNECTING: Final = 100
_FOREVER_S: Final = 100.0
_FEW_SLOTS: Final = 20
_IDLE_COMMANDS: Final = 12
# The bytes that a stream may keep anywhere, however far it is behind its upstream: far less than its buffers' bounds.
_STREAM_KIB: Final = 64

_FIRST_TOKEN_MS = {1: 6.0, 16: 8.0, 64: 15.0, 200: 40.0}
_BEGIN = {50: Budget("at most", 3), 99: Budget("at most", 10)}


async def idle(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """CPU and Redis commands of a fleet without work."""
    pids = [pid for part in ("gateway", "worker") for pid in testbed.pids[part]]
    before = await testbed.redis_calls()
    cost = await _cpu_a_second((*pids, *testbed.pids["valkey"]), 2 * size.window_s)
    sent = (await testbed.redis_calls() - before).commands / (2 * size.window_s)
    results.note("CPU a second, idle fleet", "ms", "tailrace", cost, Budget("at most", 5))
    results.note(
        "Redis commands a second and process, idle", "", "tailrace", sent / len(pids), Budget("at most", _IDLE_COMMANDS)
    )


async def streams(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """First tokens, gaps and CPU a token, with paced streams."""
    for _ in range(size.rounds):
        for count, tokens in size.levels:
            for who, ask in testbed.asking.items():
                meter = testbed.meter()
                received = await paced(ask, SteadyLoad(count, RATE, tokens, size.window_s), watch=meter.sample)
                load = f"{count} × {RATE:g} tok/s"
                most = _FIRST_TOKEN_MS.get(count)
                budget = Budget("direct +", most, of="chat") if most else None
                results.spread(f"first token, {load}", who, received.first_s, {50: budget})
                if count == size.levels[-1][0]:
                    note_heard(results, load, who, received, Budget("direct +", 10))
                    note_cpu(results, f"CPU a token, {load}", who, meter.spent_s, received.tokens, 1e6, "µs", 100)
                results.faults += received.faults


async def throughput(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """As many tokens as go through, with 20 streams."""
    for _ in range(size.rounds):
        for who, ask in testbed.asking.items():
            meter = testbed.meter()
            received = await unpaced(
                ask, at_once=_AT_ONCE, each=size.unpaced_each, tokens=size.unpaced_tokens, watch=meter.sample
            )
            load = f"unpaced, {_AT_ONCE} streams"
            results.note(load, "tokens/s", who, received.tokens / received.seconds, Budget("at least", 15_000))
            note_cpu(results, f"CPU a token, {load}", who, meter.spent_s, received.tokens, 1e6, "µs", 60)
            results.faults += received.faults


async def short_jobs(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Many small jobs, 20 at once."""
    for _ in range(size.rounds):
        for who, ask in testbed.asking.items():
            meter, before = testbed.meter(), await testbed.redis_calls()
            received = await unpaced(ask, at_once=_AT_ONCE, each=size.short_each, tokens=_SHORT, watch=meter.sample)
            jobs = len(received.hearings)
            if who in testbed.dialects:
                calls = await testbed.redis_calls() - before
                results.note("Redis functions a job", "", who, calls.functions / jobs)
                results.note("Redis commands a job", "", who, calls.commands / jobs)
            label = f"short jobs, {_AT_ONCE} at once"
            results.note(label, "jobs/s", who, jobs / received.seconds, Budget("at least", 250))
            note_cpu(results, "CPU a job", who, meter.spent_s, jobs, 1e3, "ms", 5)
            results.faults += received.faults


async def dialects(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Measure the gateway's cost of a token in each dialect, one event for each wake, against the native one."""
    label = f"CPU a token at the gateway, {size.dialects} × {RATE:g} tok/s"
    for _ in range(size.rounds):
        cost: dict[str, float] = {}
        for who, ask in testbed.dialects.items():
            meter = testbed.meter()
            steady_load = SteadyLoad(size.dialects, RATE, size.scaling_tokens, size.window_s)
            received = await paced(ask, steady_load, watch=meter.sample)
            results.faults += received.faults
            if not received.tokens:
                continue
            cost[who] = 1e6 * meter.spent_s["gateway"] / received.tokens
            results.note(label, "µs", who, cost[who])
        if native := cost.pop("native", 0.0):  # less than a tick of the clock is nothing
            for who, each in cost.items():
                results.note(f"{label}, over native", "×", who, each / native, Budget("at most", 1.5))


async def begin(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """How soon a job begins on an idle system."""
    seconds = await steady(lambda _: _begin_s(testbed, results), count=size.samples, every_s=0.03)
    results.spread("submit → begin, idle", "tailrace", seconds, dict(_BEGIN))


async def crowd(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """How soon a job begins, and how fast a job is read, while 500 others are streamed."""
    ramp_s, every_s = size.crowd * 0.01, 0.02
    length_s = ramp_s + 2 * size.samples * every_s + 2
    order = Order(int(length_s * _CROWD_RATE), _CROWD_RATE)
    humming = asyncio.create_task(steady(lambda _: testbed.asking["native"](order), count=size.crowd, every_s=0.01))
    try:
        await asyncio.sleep(ramp_s)
        there = (await testbed.upstream.ask("GET", f"/observations?open={size.crowd}")).json()["open"]
        results.note(f"streams open, of {size.crowd}", "", "tailrace", there, Budget("at least", size.crowd))
        others = f"with {size.crowd} jobs at {_CROWD_RATE:g} tok/s"
        seconds = await steady(lambda _: _begin_s(testbed, results), count=size.samples, every_s=every_s)
        results.spread(f"submit → begin, {others}", "tailrace", seconds, dict(_BEGIN))
        job = await submit(testbed.tailrace, order)
        seconds = await steady(lambda _: _read_s(testbed, job), count=size.samples, every_s=every_s)
        results.spread(f"GET /v1/jobs/{{id}}, {others}", "tailrace", seconds, {99: Budget("at most", 20)})
        await testbed.tailrace.ask("POST", f"/v1/jobs/{job}/cancel")
        results.faults += [fault for hearing in await humming for fault in hearing.faults]
    finally:
        await leave(humming)


async def resume(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """A finished job, read again from its start."""
    for tokens in size.logs:
        job = await submit(testbed.tailrace, Order(tokens))
        await testbed.tailrace.ask("GET", f"/v1/jobs/{job}/events")
        first: list[float] = []
        whole: list[float] = []
        for _ in range(max(3, size.samples // 10)):
            hearing = Hearing(tokens)
            answer = await testbed.tailrace.ask("GET", f"/v1/jobs/{job}/events", on_body=hearing.hear)
            assert answer.first_at is not None and answer.ended_at is not None
            first.append(answer.first_at - answer.asked_at)
            whole.append(answer.ended_at - answer.asked_at)
            results.faults += hearing.end().faults
            results.note(f"resume of {tokens:,} tokens, sends", "", "tailrace", answer.chunks)
        budget = Budget("at most", 10) if tokens == 1_000 else None
        results.spread(f"resume of {tokens:,} tokens, first byte", "tailrace", first, {50: budget})
        results.spread(f"resume of {tokens:,} tokens, all of it", "tailrace", whole)


async def cancel(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """From `POST …/cancel` to the end of the upstream's socket."""
    seconds = await steady(lambda number: _cancel_s(testbed, f"cancel-{number}"), count=size.samples, every_s=0.05)
    results.spread("cancel → upstream closed", "tailrace", seconds, {99: Budget("at most", 50)})


async def memory(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Measure the memory of an idle reader in a gateway that nothing else has used."""
    caller, pid = await testbed.fresh_gateway()
    jobs = [await submit(caller, Order(2, 1 / _FOREVER_S)) for _ in range(size.reader_jobs)]
    connected, doors = asyncio.Event(), asyncio.Semaphore(_CONNECTING)
    inside = 0

    async def read(number: int) -> None:
        nonlocal inside
        received = asyncio.Event()

        def hear(data: bytes) -> None:
            if b'"content"' in data:
                received.set()

        async with doors:
            reading = asyncio.create_task(
                caller.ask("GET", f"/v1/jobs/{jobs[number % len(jobs)]}/events", on_body=hear)
            )
            await received.wait()
        inside += 1
        if inside == size.readers:
            connected.set()
        await reading

    before = resident_bytes(pid)
    readers = asyncio.gather(*(read(number) for number in range(size.readers)))
    try:
        async with asyncio.timeout(_FOREVER_S):
            await connected.wait()
        each = (resident_bytes(pid) - before) / size.readers / 1024
        results.note(f"memory an idle reader, {size.readers:,}", "KiB", "tailrace", each, Budget("at most", 20))
        for job in jobs:
            await caller.ask("POST", f"/v1/jobs/{job}/cancel")
        async with asyncio.timeout(_FOREVER_S):
            await readers
    finally:
        readers.cancel()


async def saturation(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Far more tokens than go through: streams are slower, and nothing else; then all is as before."""
    load = f"{size.saturating} × {RATE:g} tok/s, all at once"
    order = Order(size.scaling_tokens, RATE)
    job = await submit(testbed.tailrace, Order(1))
    before = {part: _resident(pids) for part, pids in testbed.pids.items()}
    began = time.monotonic()
    streaming = asyncio.create_task(
        steady(lambda _: testbed.asking["chat"](order), count=size.saturating, every_s=0.001)
    )
    reads: list[float] = []
    most = dict(before)
    try:
        while not streaming.done():
            reads.append(await _read_s(testbed, job))
            most = {part: max(most[part], _resident(pids)) for part, pids in testbed.pids.items()}
            await asyncio.sleep(0.02)
        hearings = await streaming
    finally:
        await leave(streaming)
    tokens = sum(hearing.count for hearing in hearings)
    results.note(f"tokens, {load}", "tokens/s", "chat", tokens / (time.monotonic() - began))
    results.spread(f"GET /v1/jobs/{{id}}, {load}", "tailrace", reads, {99: Budget("at most", 20)})
    for part, most_bytes in most.items():
        each = (most_bytes - before[part]) / 1024 / size.saturating
        results.note(f"memory a stream, {load}: {part}", "KiB", "tailrace", each, Budget("at most", _STREAM_KIB))
    results.faults += [fault for hearing in hearings for fault in hearing.faults]
    afterwards = [await testbed.asking["chat"](Order(_SHORT)) for _ in range(max(3, size.samples // 10))]
    first = [hearing.first_s for hearing in afterwards]
    results.spread("first token, right after that", "chat", first, {50: Budget("at most", 10)})
    results.faults += [fault for hearing in afterwards for fault in hearing.faults]


async def flood(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Measure the time of a submit while thousands of jobs wait for a slot, and the cost of their wait."""
    caller, worker = await testbed.small_fleet(slots=_FEW_SLOTS)
    pids = (worker, *testbed.pids["valkey"])
    holding = [await submit(caller, Order(2, 1 / _FOREVER_S)) for _ in range(_FEW_SLOTS)]
    await testbed.upstream.ask("GET", f"/observations?open={_FEW_SLOTS}")
    idle = await _cpu_a_second(pids, size.window_s)
    jobs: list[str] = []

    async def fill(share: int) -> None:
        jobs.extend([await submit(caller, Order(1)) for _ in range(share)])

    async def one(_: int) -> float:
        asked_at = time.monotonic()
        jobs.append(await submit(caller, Order(1)))
        return time.monotonic() - asked_at

    await asyncio.gather(*(fill(max(1, size.flood // _AT_ONCE)) for _ in range(_AT_ONCE)))
    waiting = f"{len(jobs):,} jobs wait"
    seconds = await steady(one, count=size.samples, every_s=0.01)
    results.spread(f"submit, while {waiting}", "tailrace", seconds, {99: Budget("at most", 50)})
    cost = await _cpu_a_second(pids, size.window_s)
    most = Budget("at most", round(idle + 10))  # as without them: a tick of the clock is 10 ms
    results.note(f"CPU of worker and Valkey a second, while {waiting}", "ms", "tailrace", cost, most)
    began = time.monotonic()
    for job in holding:
        await caller.ask("POST", f"/v1/jobs/{job}/cancel")
    await caller.ask("GET", f"/v1/jobs/{jobs[-1]}/events")  # those that came first begin first
    results.note(
        f"jobs through {_FEW_SLOTS} slots, after that", "jobs/s", "tailrace", len(jobs) / (time.monotonic() - began)
    )
    for job in jobs:
        status = (await caller.ask("GET", f"/v1/jobs/{job}")).json()["status"]
        if status == "running":  # it may have begun just before the last one
            await caller.ask("GET", f"/v1/jobs/{job}/events")
        elif status != "completed":
            results.faults.append(f"{job} of the flood is {status}")


async def neighbours(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """Use a fleet at its defaults alone (in the column `direct`), and beside a tenant that does its worst."""
    await compare(await testbed.shared_fleet(), results, turns=size.neighbour_turns, samples=size.samples)


async def _cpu_a_second(pids: Sequence[int], for_s: float) -> float:
    before = sum(map(cpu_s, pids))
    await asyncio.sleep(for_s)
    return 1000 * (sum(map(cpu_s, pids)) - before) / for_s


SCENARIOS: Final[dict[str, Callable[[LoadTestbed, ResultsTable, Size], Awaitable[None]]]] = {
    "idle": idle,  # first: later ones leave fleets of their own on the same Valkey
    "streams": streams,
    "burst": burst,
    "lane": lane,
    "throughput": throughput,
    "short_jobs": short_jobs,
    "dialects": dialects,
    "begin": begin,
    "crowd": crowd,
    "resume": resume,
    "cancel": cancel,
    "memory": memory,
    "saturation": saturation,
    "flood": flood,
    "neighbours": neighbours,
}


async def scale(testbed: LoadTestbed, results: ResultsTable, size: Size, fleet: str) -> None:
    """Cost a token with ever more streams; once for each fleet, which `fleet` describes."""
    for count in size.scaling:
        meter = testbed.meter()
        steady_load = SteadyLoad(count, RATE, size.scaling_tokens, size.window_s)
        received = await paced(testbed.asking["chat"], steady_load, watch=meter.sample)
        load = f"{count} × {RATE:g} tok/s, {fleet}"
        results.spread(f"first token, {load}", "chat", received.first_s)
        note_heard(results, load, "chat", received)
        note_cpu(results, f"CPU a token, {load}", "chat", meter.spent_s, received.tokens, 1e6, "µs", None)
        results.faults += received.faults


async def _begin_s(testbed: LoadTestbed, results: ResultsTable) -> float:
    """From the job's making to its beginning, as its record has them: to a millisecond."""
    job = await submit(testbed.tailrace, Order(1))
    hearing = Hearing(1)
    await testbed.tailrace.ask("GET", f"/v1/jobs/{job}/events", on_body=hearing.hear)
    results.faults += hearing.end().faults
    record = (await testbed.tailrace.ask("GET", f"/v1/jobs/{job}")).json()
    return (_time(record["started_at"]) - _time(record["created_at"])).total_seconds()


def _resident(pids: list[int]) -> int:
    return sum(map(resident_bytes, pids))


def _time(text: Any) -> datetime:
    return datetime.fromisoformat(text)


async def _read_s(testbed: LoadTestbed, job: str) -> float:
    answer = await testbed.tailrace.ask("GET", f"/v1/jobs/{job}")
    assert answer.ended_at is not None
    return answer.ended_at - answer.asked_at


async def _cancel_s(testbed: LoadTestbed, name: str) -> float:
    job = await submit(testbed.tailrace, Order(1000, _CROWD_RATE, name))
    streaming = asyncio.Event()

    def hear(data: bytes) -> None:
        if b'"content"' in data:
            streaming.set()

    reading = asyncio.create_task(testbed.tailrace.ask("GET", f"/v1/jobs/{job}/events", on_body=hear))
    await streaming.wait()
    ordered_at = time.monotonic()
    await testbed.tailrace.ask("POST", f"/v1/jobs/{job}/cancel")
    closed: float | None = (await testbed.upstream.ask("GET", f"/closed?name={name}")).json().get("at")
    await reading
    if closed is None:
        raise Broken(f"The upstream's socket of {job} was not closed.")
    return closed - ordered_at
