"""Test the supervisor: order, restarts, failures at start, and an end that leaves nothing behind."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import supervisor as module
from gateway.supervisor import FIRST_DELAY_S, LONGEST_DELAY_S, STABLE_S, Program, Supervisor, restart_delay
from shared.model.errors import StartupError
from shared.process.clock import SystemClock
from tests.support.processes import TIMEOUT_S, gone, offspring

# Code of a stand-in part, before and after it reports that it is ready on the descriptor in its last argument.
TELL = "import os, signal, sys, time; fd = int(sys.argv[-1]); tell = lambda: os.write(fd, b'ready\\n'); "
WAITS = TELL + "tell(); time.sleep(60)"
STUBBORN = TELL + "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(); time.sleep(60)"


class StandIn(Program):
    """Run the given code as a program. `spawned` and `readied` count."""

    def __init__(self, code: str, *, start_s: float = TIMEOUT_S, stop_s: float = TIMEOUT_S) -> None:
        super().__init__("part", (sys.executable, "-c", code), {}, start_s=start_s, stop_s=stop_s)
        self.spawned = asyncio.Semaphore(0)
        self.readied = asyncio.Semaphore(0)

    async def start(self) -> None:
        await super().start()
        self.readied.release()

    async def _spawn(self) -> tuple[Process, FileIO]:
        spawned = await super()._spawn()
        self.spawned.release()
        return spawned


def stand_ins(below: int) -> list[int]:
    """Return the process ids of the stand-ins that run below this process."""
    return [pid for pid, command in offspring(below).items() if TELL in command]


class Puppet:
    """Record the calls to a part without a process. `failures`: the number of starts that fail."""

    def __init__(self, name: str, diary: list[str], *, failures: int = 0) -> None:
        self.name = name
        self.diary = diary
        self.failures = failures
        self.starts = 0
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.happened = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        if self.failures:
            self.failures -= 1
            self._write("failed")
            raise StartupError(f"{self.name} has no strings.")
        self._end = asyncio.get_running_loop().create_future()
        self._write("started")

    async def died(self) -> int:
        return await asyncio.shield(self._end)

    async def stop(self) -> None:
        self._write("stopping")
        await self.may_stop.wait()
        self._write("stopped")

    def kill(self) -> None:
        self._write("killed")
        self.may_stop.set()

    def die(self, status: int = 1) -> None:
        self._end.set_result(status)

    async def until(self, entry: str, times: int = 1) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while self.diary.count(f"{self.name} {entry}") < times:
                self.happened.clear()
                await self.happened.wait()

    def _write(self, entry: str) -> None:
        self.diary.append(f"{self.name} {entry}")
        self.happened.set()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart without delay."""
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_DELAY_S", 0.001)


@pytest.fixture
def as_in_a_terminal() -> Iterator[None]:
    """Heed SIGHUP, which a run under nohup inherits as ignored; restore its handler afterwards."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.parametrize(
    ("previous_s", "lived_s", "delay_s"),
    [
        (0, 0, FIRST_DELAY_S),
        (0, STABLE_S, FIRST_DELAY_S),
        (FIRST_DELAY_S, 0.1, 2 * FIRST_DELAY_S),
        (4, STABLE_S - 0.1, 8),
        (8, 0.1, LONGEST_DELAY_S),
        (LONGEST_DELAY_S, 0.1, LONGEST_DELAY_S),
        (LONGEST_DELAY_S, STABLE_S, FIRST_DELAY_S),
    ],
)
def test_the_delay_doubles_to_its_limit_and_starts_over_after_a_long_life(
    previous_s: float, lived_s: float, delay_s: float
) -> None:
    assert restart_delay(previous_s, lived_s) == delay_s


async def test_parts_stop_in_reverse_order_and_those_started_together_stop_together() -> None:
    diary: list[str] = []
    below, left, right, above = (Puppet(name, diary) for name in ("below", "left", "right", "above"))
    left.may_stop.clear()
    async with Supervisor(SystemClock()) as supervisor:
        await supervisor.start(below)
        await supervisor.start(left, right)
        await supervisor.start(above)
        diary.clear()
        release = asyncio.create_task(_release(left, right))
    await release
    assert diary[:2] == ["above stopping", "above stopped"]
    assert set(diary[2:4]) == {"left stopping", "right stopping"}
    assert diary[-2:] == ["below stopping", "below stopped"]


async def _release(held: Puppet, other: Puppet) -> None:
    await other.until("stopped")
    held.may_stop.set()


async def test_when_a_part_cannot_start_those_before_it_are_stopped_and_the_error_is_raised() -> None:
    diary: list[str] = []

    async def start_all() -> None:
        async with Supervisor(SystemClock()) as supervisor:
            await supervisor.start(Puppet("below", diary))
            await supervisor.start(Puppet("beside", diary), Puppet("broken", diary, failures=1))

    with pytest.raises(StartupError, match=r"broken has no strings\."):
        await start_all()
    assert diary[:3] == ["below started", "beside started", "broken failed"]
    assert "beside stopped" in diary
    assert diary[-1] == "below stopped"


async def test_a_part_that_can_be_missed_may_fail_and_the_others_continue() -> None:
    diary: list[str] = []
    async with Supervisor(SystemClock()) as supervisor:
        with pytest.raises(StartupError):
            await supervisor.start(Puppet("beside", diary), Puppet("optional", diary, failures=1))
        assert "beside stopped" in diary
        await supervisor.start(Puppet("above", diary))
        assert diary[-1] == "above started"


@pytest.mark.usefixtures("short_timeouts")
async def test_a_dead_part_is_started_again_however_often_that_fails() -> None:
    part = Puppet("part", [])
    with capture_logs() as logs:
        async with Supervisor(SystemClock()) as supervisor:
            await supervisor.start(part)
            part.failures = 2
            part.die(-signal.SIGSEGV)
            await part.until("started", times=2)
            part.die(3)
            await part.until("started", times=3)
    assert part.diary[:5] == ["part started", "part failed", "part failed", "part started", "part started"]
    reported = [entry for entry in logs if entry["log_level"] != "debug"]
    assert [entry["event"] for entry in reported][:4] == [
        "part.died",
        "part.not_restarted",
        "part.not_restarted",
        "part.restarted",
    ]
    assert reported[0]["status"] == -signal.SIGSEGV
    assert reported[1]["why"] == "part has no strings."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("as_in_a_terminal")
async def test_a_signal_ends_the_block_and_stops_the_parts(number: signal.Signals) -> None:
    diary: list[str] = []
    async with Supervisor(SystemClock()) as supervisor:
        await supervisor.start(Puppet("part", diary))
        os.kill(os.getpid(), number)
        await asyncio.wait_for(supervisor.watch(), TIMEOUT_S)
        pytest.fail("the block went on")
    assert diary == ["part started", "part stopping", "part stopped"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("as_in_a_terminal")
async def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    diary: list[str] = []
    async with Supervisor(SystemClock()) as supervisor:
        await supervisor.start(Puppet("part", diary))
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(supervisor.watch(), TIMEOUT_S)
    assert diary == ["part started", "part stopping", "part stopped"]


async def test_a_second_signal_kills_parts_that_are_still_stopping() -> None:
    diary: list[str] = []
    slow, below = (Puppet(name, diary) for name in ("slow", "below"))
    slow.may_stop.clear()
    async with Supervisor(SystemClock()) as supervisor:
        await supervisor.start(below)
        await supervisor.start(slow)
        second = asyncio.create_task(_signal_after(slow, "stopping"))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(supervisor.watch(), TIMEOUT_S)
    await second
    assert diary[2:] == [
        "slow stopping",
        "slow killed",
        "below killed",
        "slow stopped",
        "below stopping",
        "below stopped",
    ]


async def _signal_after(part: Puppet, entry: str) -> None:
    await part.until(entry)
    os.kill(os.getpid(), signal.SIGINT)


async def test_an_error_inside_the_block_is_raised_after_everything_has_stopped() -> None:
    diary: list[str] = []

    async def stumble() -> None:
        async with Supervisor(SystemClock()) as supervisor:
            await supervisor.start(Puppet("part", diary))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    assert diary[-1] == "part stopped"


async def test_a_program_counts_as_started_once_it_reports_so_and_ends_on_stop() -> None:
    part = StandIn(WAITS)
    await part.start()
    (pid,) = stand_ins(below=os.getpid())
    await part.stop()
    await gone([pid])
    await part.stop()  # fine


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys; sys.exit('a sentence of its own')",
            r"The part did not start \(exit status 1\): a sentence of its own$",
        ),
        (TELL + "os.close(fd)", r"The part did not start \(exit status (0|-15)\): it said nothing\.$"),
        (
            TELL + "print('x' * 100_000, flush=True); sys.exit(4)",
            r"The part did not start \(exit status 4\): x{1,2000}$",
        ),
    ],
)
async def test_a_program_that_does_not_get_ready_is_ended_and_its_last_output_is_quoted(
    code: str, message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        await StandIn(code).start()
    assert stand_ins(below=os.getpid()) == []


async def test_a_program_that_takes_too_long_to_get_ready_is_ended_and_quoted() -> None:
    said = ""
    # On a busy machine even Python is slow to print its first line.
    for start_s in (0.5, 2.0, 8.0):
        with pytest.raises(
            StartupError, match=rf"^The part was not ready within {start_s:g} s \(exit status -15\): "
        ) as reported:
            await StandIn(TELL + "print('trying', flush=True); time.sleep(60)", start_s=start_s).start()
        said = str(reported.value)
        if said.endswith(": trying"):
            break
    assert said.endswith(": trying")
    assert stand_ins(below=os.getpid()) == []


async def test_a_program_that_is_not_there_is_named() -> None:
    missing = Program("part", ("/nowhere/to/be/found",), {}, start_s=1, stop_s=1)
    with pytest.raises(StartupError, match=r"The part can't be started: .*/nowhere/to/be/found"):
        await missing.start()
    await missing.stop()


async def test_a_program_that_ignores_sigterm_is_killed_after_its_bound() -> None:
    part = StandIn(STUBBORN, stop_s=0.1)
    await part.start()
    death = asyncio.create_task(part.died())
    await asyncio.wait_for(part.stop(), TIMEOUT_S)
    assert await death == -signal.SIGKILL


async def test_a_start_that_is_called_off_leaves_no_process() -> None:
    part = StandIn(TELL + "time.sleep(60)")
    start = asyncio.create_task(part.start())
    await part.spawned.acquire()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert stand_ins(below=os.getpid()) == []


async def test_the_output_of_a_program_is_passed_on_once_it_is_ready(capfd: pytest.CaptureFixture[str]) -> None:
    part = StandIn(TELL + "print('early', flush=True); tell(); print('late', file=sys.stderr); sys.exit(0)")
    await part.start()
    await part.died()
    await part.stop()
    assert capfd.readouterr().err == "early\nlate\n"


@pytest.mark.usefixtures("short_timeouts")
async def test_a_killed_program_runs_again_in_a_new_process() -> None:
    part = StandIn(WAITS)
    async with Supervisor(SystemClock()) as supervisor:
        await supervisor.start(part)
        await part.readied.acquire()
        (first,) = stand_ins(below=os.getpid())
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(part.readied.acquire(), TIMEOUT_S)
        (second,) = stand_ins(below=os.getpid())
        assert second != first
    assert stand_ins(below=os.getpid()) == []


BOSS = """
import asyncio, sys
from gateway.supervisor import Program, Supervisor
from shared.process.clock import SystemClock

async def boss():
    async with Supervisor(SystemClock()) as supervisor:
        for name in ("below", "above"):
            await supervisor.start(Program(name, (sys.executable, "-c", sys.argv[1]), {}, start_s=5, stop_s=5))
        print("ready", flush=True)
        await supervisor.watch()

asyncio.run(boss())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_a_killed_supervisor_leaves_nothing_running_not_even_the_stubborn() -> None:
    boss = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BOSS, STUBBORN, stdout=PIPE, cwd=Path(__file__).parents[3]
    )
    assert boss.stdout is not None
    assert await asyncio.wait_for(boss.stdout.readline(), TIMEOUT_S) == b"ready\n"
    parts = stand_ins(below=boss.pid)
    assert len(parts) == 2
    boss.kill()
    await boss.wait()
    await gone(parts)
