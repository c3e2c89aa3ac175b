"""The load: clients that submit jobs, and readers that leave, stall and come back, each from a seed of its own.

A client follows the README's rules for clients, and nothing cleverer: it repeats a POST under its Idempotency-Key,
resumes with `Last-Event-ID`, and changes to another gateway when one is silent. Not here: a reader's result
(transcript.py).
"""

import asyncio
import json
import math
import random
import time
from typing import Any

from shared.model.events import Event, EventType, decode_frame
from tests.faults.http import NET_FAULTS, Response, request
from tests.faults.score import Score
from tests.faults.transcript import Transcript
from tests.support.continuation import tokens_of
from tests.support.upstream import WireScript, ask, expected_text
from worker.upstream.providers.scripted import script_of

MODEL = "scripted"
MEDIAN = 180
"""Tokens of an answer, by default."""
RATES = (0.0, 0.0, 0.0, 50.0, 150.0, 400.0)
MOST_TOKENS = 5_000
_CHAT_SHARE, _SECOND_READER, _LEAVES, _STALLS, _FREEZES = 0.15, 0.3, 0.5, 0.1, 0.3
# So many requests end by their own limit, before the upstream would.
_LIMITED = 0.2
# A stall ends in time to go on, a freeze (a share of them) only when a gateway has given the reader up.
_STALL_S, _FREEZE_S = (0.2, 3.0), (6.0, 10.0)
# A read that took so long found nothing that was there already.
_WAITED_S = 0.005
# The statuses of a gateway for a client that can't be served now.
_NOT_NOW, _CHAT_NOT_NOW = (429, 503), (429, 502, 503, 504)
_PAUSE_S = (0.05, 0.5)


def truth_of(body: dict[str, Any]) -> list[str]:
    """Return the upstream's answer to this request, token by token."""
    return tokens_of(body, script_of(body, WireScript))


class Client:
    """One client: job after job, until `stop` is set."""

    def __init__(self, seed: str, ports: list[int], score: Score, *, median: int = MEDIAN) -> None:
        """Half of its answers have more than `median` tokens."""
        self._median = median
        self._chance = random.Random(seed)
        self._seed = seed
        self._ports = ports
        self._score = score

    async def run(self, stop: asyncio.Event) -> None:
        """Make jobs and read them; each job that was begun is read to its end."""
        number = 0
        while not stop.is_set():
            number += 1
            tokens = min(MOST_TOKENS, 1 + int(self._chance.lognormvariate(math.log(self._median), 1.0)))
            body = ask(model=MODEL, tokens=tokens, seed=self._chance.randrange(2**31), rate=self._chance.choice(RATES))
            if self._chance.random() < _LIMITED:
                body["max_tokens"] = self._chance.randint(1, tokens)
            if self._chance.random() < _CHAT_SHARE:
                await self._chat(body)
            else:
                await self._job(body, f"{self._seed}-{number}")

    # Native jobs.

    async def job(self, body: dict[str, Any]) -> None:
        """Read one job to its end."""
        await self._job(body, f"{self._seed}-only")

    async def _job(self, body: dict[str, Any], key: str) -> None:
        job_id = await self._submit(body, key)
        self._score.accepted += 1
        self._score.unread.add(job_id)
        truth = truth_of(body)
        self._score.tokens += len(truth)
        readers = [self._read(job_id, body, key, truth, random.Random(f"{key}/1"))]
        if self._chance.random() < _SECOND_READER:
            readers.append(self._read(job_id, body, key, truth, random.Random(f"{key}/2")))
        completed = await asyncio.gather(*readers)
        if all(completed):
            self._score.ended += 1
            self._score.unread.discard(job_id)

    async def _submit(self, body: dict[str, Any], key: str) -> str:
        """Return the job's id, once there is a 202."""
        while True:
            try:
                port = self._chance.choice(self._ports)
                async with request(port, "POST", "/v1/jobs", body=body, headers={"idempotency-key": key}) as response:
                    said = await response.whole()
                    if response.status == 202:
                        job_id: str = json.loads(said)["id"]
                        return job_id
                    if response.status not in _NOT_NOW:
                        self._score.problems.append(f"A submit was answered with {response.status}: {said[:200]!r}.")
            except NET_FAULTS:
                pass
            await asyncio.sleep(self._chance.uniform(*_PAUSE_S))

    async def _read(self, job_id: str, body: dict[str, Any], key: str, truth: list[str], chance: random.Random) -> bool:
        """Read a job to its end, with all that may come between; whether it was completed."""
        reader = Reader(self._score, chance)
        self._score.readers += 1
        while not reader.over:
            path = f"/v1/jobs/{job_id}/events"
            headers = {"last-event-id": str(reader.transcript.cursor)} if reader.transcript.events else {}
            stalls = chance.random() < _STALLS
            try:
                async with request(chance.choice(self._ports), "GET", path, headers=headers, small=stalls) as response:
                    if response.status == 200:
                        await reader.follow(response, stalls=stalls)
                    elif response.status == 404:
                        self._score.forgotten += 1
                        reader.record_loss("A reader got a 404")
                        reader.transcript.start_over()
                        job_id = await self._submit(body, key)
                    elif response.status not in _NOT_NOW:
                        self._score.problems.append(f"A read was answered with {response.status}.")
                        return False
            except NET_FAULTS:
                pass
            if not reader.over:
                self._score.reconnects += 1
                await asyncio.sleep(chance.uniform(*_PAUSE_S))
        return self._judge(job_id, reader.transcript, truth)

    def _judge(self, job_id: str, transcript: Transcript, truth: list[str]) -> bool:
        score, found = self._score, transcript.compare(truth)
        score.lost += found.lost
        score.repeated += found.repeated
        score.gaps += transcript.gaps
        score.rollbacks += transcript.rollbacks
        score.continued += transcript.continued
        if found.lost or found.repeated or not found.proven:
            end = transcript.end.data[:300].decode() if transcript.end else "no end"
            score.problems.append(
                f"{job_id}: lost {found.lost}, repeated {found.repeated}, proven {found.proven}; {end}"
            )
        return transcript.end is not None

    # Chat calls.

    async def _chat(self, body: dict[str, Any]) -> None:
        """Make a foreground call: it gets everything, or an error that says so. It must never get a clean lie."""
        self._score.chats += 1
        self._score.readers += 1
        text, done = "", False
        try:
            port = self._chance.choice(self._ports)
            async with request(port, "POST", "/v1/chat/completions", body={**body, "stream": True}) as response:
                if response.status != 200:
                    self._score.chats_refused += 1
                    if response.status not in _CHAT_NOT_NOW:
                        said = (await response.whole())[:200]
                        self._score.problems.append(f"A chat was answered with {response.status}: {said!r}.")
                    return
                text, done = await _chat_text(response)
                if response.complete and not done:
                    self._score.problems.append("A chat stream ended cleanly without [DONE] or an error.")
        except ChatFailed:
            self._score.chats_refused += 1
            return
        except NET_FAULTS:
            self._score.chats_refused += 1
            await asyncio.sleep(self._chance.uniform(*_PAUSE_S))
            return
        if done and text == expected_text(body):
            self._score.chats_complete += 1
        else:
            self._score.problems.append("A chat stream said [DONE], and its text is not what the upstream said.")


class ChatFailed(Exception):
    """The stream ended with an error, as it should."""


async def _chat_text(response: Response) -> tuple[str, bool]:
    """Return the text of a chat stream, and whether it said [DONE]."""
    parts: list[str] = []
    done = False
    tail = b""
    while data := await response.chunk():
        *lines, tail = (tail + data).split(b"\n")
        for line in lines:
            if line == b"data: [DONE]":
                done = True
            elif line.startswith(b"data: "):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise ChatFailed
                parts += [choice["delta"].get("content") or "" for choice in chunk["choices"]]
    return "".join(parts), done


class Reader:
    """One reader of one job over all its connections."""

    def __init__(self, score: Score, chance: random.Random) -> None:
        self.transcript = Transcript()
        self._score = score
        self._chance = chance
        self._heard_at = time.monotonic()
        # When it last got an event that had just come, rather than lain in a buffer.
        self._current_at = self._heard_at

    @property
    def over(self) -> bool:
        """Return whether it has the terminal event."""
        return self.transcript.end is not None

    def record_loss(self, what: str) -> None:
        """The gateway says that something is gone."""
        self._score.record_loss(what, self._current_at, time.monotonic())

    async def follow(self, response: Response, *, stalls: bool) -> None:
        """Read until the end, or until it leaves. Raises one of `NET_FAULTS` if the stream breaks."""
        leaves_after = self._chance.expovariate(1 / 300) if self._chance.random() < _LEAVES else float("inf")
        stalls_after = self._chance.expovariate(1 / 100) if stalls else float("inf")
        seen, tail, asked_at, stalled = 0, b"", time.monotonic(), False
        while data := await response.chunk():
            # After a stall the buffers on the way are full of older events, and pass them on one after the other.
            waited = time.monotonic() - asked_at > _WAITED_S and not stalled
            *frames, tail = (tail + data).split(b"\n\n")
            for frame in frames:
                bare = frame[frame.find(b"event:") :] if frame.startswith(b":") else frame
                if bare.startswith(b"event:"):
                    self._heard(decode_frame(bare + b"\n\n"), current=waited)
                    seen += 1
            if seen >= stalls_after:
                stalls_after, stalled = float("inf"), True
                await self._stall(response)
            if seen >= leaves_after and not self.over:
                return
            asked_at = time.monotonic()
        if not self.over:
            self._score.problems.append("A stream ended cleanly without a terminal event.")

    async def _stall(self, response: Response) -> None:
        freezes = self._chance.random() < _FREEZES
        self._score.frozen += freezes
        await response.stall(self._chance.uniform(*(_FREEZE_S if freezes else _STALL_S)))
        self._heard_at = time.monotonic()

    def _heard(self, event: Event, *, current: bool) -> None:
        now = time.monotonic()
        if event.type is EventType.GAP:
            self.record_loss("A reader got a gap")
        self.transcript.apply(event)
        if current:
            self._current_at = now
        self._score.longest_stall_s = max(self._score.longest_stall_s, now - self._heard_at)
        self._heard_at = now
