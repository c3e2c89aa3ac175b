"""The bench counts right, and a stream that is not whole is found. How fast anything is, is not asserted here."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from shared.process.child import signal_child, start_child
from tests.load.bench import main
from tests.load.bursts import without_stall
from tests.load.caller import Broken, Caller
from tests.load.generator import Asking, Hearing, Received, SteadyLoad, chat, in_turn, paced, steady, together, unpaced
from tests.load.mock_upstream import Order, running_mock
from tests.load.neighbour import WAYS, run, until_ready
from tests.load.results_table import Budget, ResultsTable, percentile
from tests.load.scenarios import SCENARIOS, scale
from tests.load.sizes import TINY
from tests.load.testbed import NEIGHBOUR_KEY, LoadTestbed, Peer, running_testbed

on_the_stand = pytest.mark.asyncio(loop_scope="module")
"""One testbed serves all tests: it takes seconds to start."""


@pytest.fixture
async def mock() -> AsyncIterator[Caller]:
    """A caller of a mock upstream."""
    async with running_mock() as base_url:
        caller = Caller(urlsplit(base_url).port or 0)
        yield caller
        caller.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def testbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LoadTestbed]:
    """All the processes of a run."""
    async with running_testbed(tmp_path_factory.mktemp("testbed")) as running:
        yield running


def token(number: int) -> bytes:
    return b'data: {"choices":[{"delta":{"content":" %05d"}}]}\n\n' % number


def received(*pieces: bytes, tokens: int) -> Hearing:
    """Return a stream that came in these pieces and has ended."""
    hearing = Hearing(tokens)
    for piece in pieces:
        hearing.hear(piece)
    return hearing.end()


# The check of a stream.


@pytest.mark.parametrize("size", [1, 7, 48, 10_000])
def test_a_whole_stream_has_no_faults_however_it_is_cut(size: int) -> None:
    stream = b"".join(map(token, range(5))) + b"data: [DONE]\n\n"

    hearing = received(*(stream[at : at + size] for at in range(0, len(stream), size)), tokens=5)

    assert hearing.faults == []
    assert hearing.count == 5


def test_events_besides_tokens_in_a_native_stream_are_not_faults() -> None:
    queued, end = b"event: queued\ndata: {}\nid: 0-1\n\n", b"event: completed\ndata: {}\nid: 1-2\n\n"

    assert (
        received(queued, b": hb\n", b'event: delta\ndata: {"content":" 00000"}\nid: 1-1\n\n', end, tokens=1).faults
        == []
    )


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (
            b'event: response.output_text.delta\ndata: {"delta":" 00000"}\n\n',
            b"event: response.completed\ndata: {}\n\n",
        ),
        (b'data: {"type":"text-delta","id":"text-1","delta":" 00000"}\n\n', b"data: [DONE]\n\n"),
    ],
    ids=["responses", "ui"],
)
def test_a_token_is_counted_once_in_dialects_that_repeat_it(said: bytes, end: bytes) -> None:
    again = b'event: response.output_text.done\ndata: {"text":" 00000","content":[{"text":" 00000"}]}\n\n'

    hearing = received(said, again, end, tokens=1)

    assert (hearing.faults, hearing.count) == ([], 1)


@pytest.mark.parametrize("end", [b"response.failed", b"response.incomplete", b"error"])
def test_a_response_that_ends_badly_is_faulty(end: bytes) -> None:
    hearing = received(token(0), b"event: %b\ndata: {}\n\n" % end, tokens=1)

    assert f"event: {end.decode()} after 1 tokens" in hearing.faults


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([token(0), token(2)], "token 2 where 1 was due"),
        ([token(0), token(0)], "token 0 where 1 was due"),
        ([token(1) + token(0)], "token 1 where 0 was due"),
        ([token(0)], "it ended after 1 of 2 tokens"),
        ([token(0), token(1), token(2)], "it ended after 3 of 2 tokens"),
        ([token(0), b"event: rollback\ndata: {}\n\n", token(1)], "event: rollback after 1 tokens"),
    ],
    ids=["missing", "repeated", "swapped", "too_few", "too_many", "rolled_back"],
)
def test_a_stream_that_is_not_whole_is_faulty(pieces: list[bytes], fault: str) -> None:
    assert fault in received(*pieces, b"data: [DONE]\n\n", tokens=2).faults


def test_a_stream_without_an_end_marker_is_faulty() -> None:
    assert received(token(0), tokens=1).faults == ["it ended without saying so, after 1 tokens"]


# The mock and the loads.


async def test_the_mock_sends_the_ordered_tokens(mock: Caller) -> None:
    unpaced_stream = await chat(mock)(Order(100))
    paced_stream = await chat(mock)(Order(5, rate=500))

    assert unpaced_stream.faults == paced_stream.faults == []
    assert (unpaced_stream.count, paced_stream.count) == (100, 5)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        (Order(10, skip=3), "token 4 where 3 was due"),
        (Order(10, skip=0), "token 1 where 0 was due"),
        (Order(10, skip=9), "it ended after 9 of 10 tokens"),
        (Order(10, repeat=3), "token 3 where 4 was due"),
    ],
    ids=["skipped", "first_skipped", "last_skipped", "repeated"],
)
async def test_a_token_that_the_mock_skips_or_repeats_is_found(mock: Caller, order: Order, fault: str) -> None:
    assert fault in (await chat(mock)(order)).faults


async def test_the_mock_refuses_an_order_without_bounds(mock: Caller) -> None:
    with pytest.raises(Broken, match="400"):
        await mock.ask("POST", "/v1/chat/completions", Order(1).request() | {"messages": [{"content": '{"tokens":0}'}]})


async def test_the_mock_refuses_an_order_for_a_refusal(mock: Caller) -> None:
    answer = await mock.ask("POST", "/v1/chat/completions", Order(1, refusal=402).request(), expect=402)

    assert answer.json()["error"]["code"] == "insufficient_quota"


async def test_the_mock_reports_open_streams_and_those_that_their_client_closed(mock: Caller) -> None:
    reading = asyncio.create_task(chat(mock)(Order(100, rate=1, name="left")))
    opened = (await mock.ask("GET", "/observations?open=1")).json()
    reading.cancel()
    closed = (await mock.ask("GET", "/closed?name=left")).json()
    after = (await mock.ask("GET", "/observations")).json()

    assert opened == {"open": 1, "streams": 1}
    assert closed["at"] > 0
    assert after == {"open": 0, "streams": 1}


async def test_a_paced_load_has_so_many_streams_at_once_and_counts_only_its_window(mock: Caller) -> None:
    samples: list[float] = []
    steady_load = SteadyLoad(streams=4, rate=100, tokens=10, window_s=0.2)

    load = await paced(chat(mock), steady_load, watch=lambda: samples.append(asyncio.get_running_loop().time()))

    assert len(load.hearings) == len(steady_load.starts) == 4 + 8
    assert load.faults == []
    assert len(samples) == 2
    assert 0 < load.tokens < sum(hearing.count for hearing in load.hearings) == 120


async def test_an_unpaced_load_counts_every_token(mock: Caller) -> None:
    load = await unpaced(chat(mock), at_once=3, each=2, tokens=20)

    assert load.tokens == 3 * 2 * 20
    assert len(load.first_s) == 6


async def test_a_steady_load_does_each_thing_once() -> None:
    assert await steady(lambda number: asyncio.sleep(0, number), count=3, every_s=0.001) == [0, 1, 2]


def test_tokens_that_come_together_have_no_gap_between_them() -> None:
    hearing = Hearing(4)
    hearing.arrivals = [(1.0, 1), (1.5, 2), (9.0, 1)]

    assert Received([hearing], begin=1.0, end=2.0).gaps_s == [0.5, 0.0]
    assert Received([hearing], begin=1.0, end=2.0).tokens == 3


@pytest.mark.parametrize(("gaps", "count"), [((0.02, 0.04), 2), ((0.02, 0.05), 1), ((0.05, 0.05), 0)])
def test_a_stream_with_a_gap_of_more_than_two_intervals_stalls(gaps: tuple[float, ...], count: int) -> None:
    streams = []
    for gap in gaps:
        streams.append(hearing := Hearing(2))
        hearing.arrivals = [(0.0, 1), (gap, 1)]

    assert without_stall(Received(streams, begin=0.0, end=1.0)) == count


async def test_streams_in_turn_go_to_each_server_as_often_as_to_any_other() -> None:
    asked: list[int] = []

    def server(number: int) -> Asking:
        async def ask(order: Order) -> Hearing:
            asked.append(number)
            return Hearing(order.tokens)

        return ask

    await together(in_turn([server(1), server(2)]), Order(1), count=4, within_s=0.01)

    assert asked == [1, 2, 1, 2]


# Through Tailrace.


@on_the_stand
async def test_each_dialect_gives_every_token(testbed: LoadTestbed) -> None:
    for ask in testbed.dialects.values():
        hearing = await ask(Order(50))

        assert hearing.faults == []
        assert hearing.count == 50


@on_the_stand
async def test_a_token_that_the_upstream_skips_is_found_behind_tailrace_too(testbed: LoadTestbed) -> None:
    for ask in testbed.dialects.values():
        assert "token 4 where 3 was due" in (await ask(Order(10, skip=3))).faults


@on_the_stand
@pytest.mark.parametrize("name", SCENARIOS)
async def test_each_scenario_fills_in_its_rows(testbed: LoadTestbed, name: str) -> None:
    results = ResultsTable()

    await SCENARIOS[name](testbed, results, TINY)

    assert results.faults == []
    assert all(line.through >= 0 for line in results.lines())
    assert len(list(results.lines())) >= 1


@on_the_stand
async def test_a_neighbour_does_its_worst_in_all_its_ways_and_leaves_nothing_that_waits(testbed: LoadTestbed) -> None:
    fleet = await testbed.shared_fleet()

    turns = await run(fleet.caller.port, NEIGHBOUR_KEY, WAYS, until_ready)

    assert turns.keys() == set(WAYS)
    theirs = Caller(fleet.caller.port, NEIGHBOUR_KEY)
    testbed.callers.append(theirs)
    for status in ("queued", "running"):
        assert (await theirs.ask("GET", f"/v1/jobs?status={status}")).json()["data"] == []
    assert (await fleet.caller.ask("GET", "/v1/jobs")).json()["data"] == []


@on_the_stand
async def test_scaling_has_a_cost_for_each_number_of_streams(testbed: LoadTestbed) -> None:
    results = ResultsTable()

    await scale(testbed, results, TINY, "1 worker")

    assert results.faults == []
    assert "CPU a token, 2 × 50 tok/s, 1 worker: all" in results.rows


def test_the_command_prints_a_table_and_writes_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--only", "cancel", "--json", str(tmp_path / "bench.json")]) == 0

    assert "cancel → upstream closed p99 [ms]" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [line["name"] for line in written["lines"]] == [f"cancel → upstream closed p{p}" for p in (50, 99)]
    assert written["about"]["processors"] >= 1


async def test_an_interrupted_run_shows_its_results_so_far() -> None:
    argv = [sys.executable, "-m", "tests.load.bench", "--tiny", "--only", "cancel", "crowd"]
    process = await start_child(argv, output=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b"crowd" not in (line := await process.stdout.readline()):
            assert line
        signal_child(process, signal.SIGINT)
        said = (await process.stdout.read()).decode()

    assert "cancel → upstream closed p99 [ms]" in said
    assert "It was interrupted" in said
    assert await process.wait() == 1


def test_a_peer_off_this_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="no load leaves this machine"):
        Peer("https://api.openai.com/v1", "", "").caller()


# The results table.


def test_a_row_has_the_median_of_its_rounds_and_a_ratio() -> None:
    results = ResultsTable()
    for value in (5.0, 1.0, 3.0):
        results.note("first token", "ms", "direct", 1.0)
        results.note("first token", "ms", "chat", value)

    (line,) = results.lines()

    assert (line.name, line.direct, line.through, line.ratio) == ("first token, chat", 1.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("budget", "good", "bad"),
    [
        (Budget("at most", 3), 3.0, 3.1),
        (Budget("at least", 3), 3.0, 2.9),
        (Budget("direct +", 3), 13.0, 13.1),
        (Budget("direct ×", 1.5), 15.0, 15.1),
    ],
    ids=["at_most", "at_least", "direct_plus", "direct_times"],
)
def test_a_budget_is_met_or_missed(budget: Budget, good: float, bad: float) -> None:
    assert budget.met(good, 10.0)
    assert not budget.met(bad, 10.0)


def test_a_budget_of_one_dialect_does_not_judge_the_other() -> None:
    results = ResultsTable()
    for who in ("direct", "chat", "native"):
        results.note("first token", "ms", who, 9.0, Budget("direct +", 1, of="chat"))

    assert [(line.name, line.met) for line in results.lines()] == [
        ("first token, chat", True),
        ("first token, native", None),
    ]


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]

    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)
