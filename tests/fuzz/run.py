"""One run: requests of a seed, one after the other, to a gateway with a worker that answers at once."""

import asyncio
import socket
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from random import Random

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.metrics import FleetMetrics, Metrics
from tests.fuzz.invariants import Stored, job_of, wrong_with
from tests.fuzz.raw import raw_request
from tests.fuzz.requests import CALLERS, Asked, Requests
from tests.support.client import TIMEOUT_S, Answer
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.system import System, running_system, running_worker

_RAW_SHARE = 0.3
_SHOWN = 20


@dataclass
class Report:
    """The requests of a run, and their problems."""

    seed: int
    structured: int = 0
    raw: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the report to print."""
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        lines = [
            f"seed {self.seed}: {self.structured} structured and {self.raw} raw requests in {self.seconds:.0f} s",
            f"statuses: {statuses}",
            f"problems: {len(self.problems)}",
            *self.problems[:_SHOWN],
        ]
        return "\n".join(lines)


async def run(settings: Settings, *, seed: int, seconds: float | None = None, requests: int | None = None) -> Report:
    """Ask until the time is over, or so many requests were sent."""
    report, rng = Report(seed), Random(seed)
    if any("tenant" in family.labels for metrics in (Metrics(), FleetMetrics()) for family in metrics.families):
        report.problems.append("A metric has the label tenant, and nothing here watches whose it moves.")
    began = time.monotonic()
    async with running_system(settings) as system, running_worker(settings, ControlledProvider(answer_call)):
        fuzz = _Fuzz(system, report, Requests(rng))
        while not report.problems[_SHOWN:]:
            report.seconds = time.monotonic() - began
            if (seconds is not None and report.seconds > seconds) or report.structured + report.raw == requests:
                break
            await (fuzz.raw(raw_request(rng)) if rng.random() < _RAW_SHARE else fuzz.structured(fuzz.requests.next()))
    return report


def answer_call(call: Call) -> None:
    """Play the upstream: vectors, a refusal, or two words."""
    if call.embeds:
        call.embed()
        call.stop()
    elif len(str(call.request)) % 5 == 0:
        call.fail(ProviderRefused("Not this one.", code="invalid_request"))
    else:
        call.say("Well", ".")
        call.end()


class _Fuzz:
    def __init__(self, system: System, report: Report, requests: Requests) -> None:
        self.requests = requests
        self._system = system
        self._report = report

    async def structured(self, asked: Asked) -> None:
        """Send a request, and check its answer and the stored keys."""
        self._report.structured += 1
        before = await self._stored()
        client = self._system.client.as_(CALLERS[asked.caller])
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                answer = await client.request(asked.method, asked.target, body=asked.body, headers=asked.headers)
        except (EOFError, ConnectionError, AssertionError, TimeoutError, ValueError) as error:
            self._problem(asked, f"no whole answer: {error!r}")
            return
        self._report.statuses[answer.status] += 1
        if (wrong := wrong_with(asked, answer)) is not None:
            self._problem(asked, wrong)
        if (job_id := job_of(answer)) is not None:
            self.requests.add(job_id)
        await self._settled(_shown(asked))
        after = await self._stored()
        self._check_stored(asked, answer, before, after)

    def _check_stored(self, asked: Asked, answer: Answer, before: Stored, after: Stored) -> None:
        # A job that its upstream has refused was accepted before: its answer names it.
        is_refused = 400 <= answer.status < 500 and job_of(answer) is None
        if is_refused and (added := after.added_since(before)):
            self._problem(asked, f"refused with {answer.status}, and stored {added}")
        # Root may requeue and delete the dead letters of all.
        if asked.caller != "root" and (moved := after.others_moved_since(before, asked.caller)):
            self._problem(asked, f"moved what belongs to {moved}")

    async def raw(self, data: bytes) -> None:
        """Send bytes; the gateway answers or closes, and continues to serve."""
        self._report.raw += 1
        loop = asyncio.get_running_loop()
        said = b""
        with closing(socket.socket()) as sock:
            sock.setblocking(False)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await loop.sock_connect(sock, ("127.0.0.1", self._system.client.port))
                    await loop.sock_sendall(sock, data)
                    sock.shutdown(socket.SHUT_WR)
                    while piece := await loop.sock_recv(sock, 65_536):
                        said += piece
            except ConnectionError:
                pass
            except TimeoutError:
                self._report.problems.append(f"{data[:200]!r}: neither an answer nor an end")
        await self._settled(repr(data[:200]))
        for line in said.split(b"\r\n"):
            if line.startswith(b"HTTP/1.1 "):
                status = int(line.split(b" ")[1])
                self._report.statuses[status] += 1
                if status >= 500 and status != 501:
                    self._report.problems.append(f"{data[:200]!r}: an answer of {status}")

    async def _settled(self, request: str) -> None:
        """Wait until each accepted job has ended: an end moves its own tenant's keys."""
        keys, client = self._system.core.keys, self._system.core.client
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                # An event would need a reader, which keeps jobs alive.
                while await client.exists(keys.active, keys.reservations):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        except TimeoutError:
            self._report.problems.append(f"{request}: a job did not end")

    async def _stored(self) -> Stored:
        return await Stored.now(self._system.core.client, self._system.settings.key_prefix)

    def _problem(self, asked: Asked, wrong: str) -> None:
        self._report.problems.append(f"{_shown(asked)}: {wrong}")


def _shown(asked: Asked) -> str:
    body = "" if asked.body is None else f" {asked.body[:300]!r}"
    headers = f" {asked.headers}" if asked.headers else ""
    return f"{asked.caller or 'stranger'}: {asked.method} {asked.target[:200]}{headers}{body}"
