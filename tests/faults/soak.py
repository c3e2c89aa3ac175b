"""Minutes of all calls of clients, and the proof that nothing of it stays in Redis: as many keys as before.

`make faults` ends with it; test_soak.py is the shortest. It has no faults, and retentions are short. Not here:
the answers that the callers get (load.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shared.model.jobs import VIEWER_LEASE_S
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.load import MODEL
from tests.support.client import Client
from tests.support.upstream import ask

RETENTION_S: Final = 2.0
_TIMEOUT_S: Final = 20.0
SETTINGS: Final[dict[str, Any]] = {
    # A job that fails is a dead letter at once.
    "max_attempts": 1,
    "retention_s": RETENTION_S,
    "unstored_retention_s": RETENTION_S,
    "dead_letter_retention_s": RETENTION_S,
    # A tenant's list and a conversation outlive the time that a job has.
    "timeout_s": _TIMEOUT_S,
    "api_keys": ("sk-alice:alice", "sk-bob:bob"),
}
_WITHIN_S: Final = 20.0
"""What is to go is gone so long after its time: the machine may be busy."""
_LIST_S: Final = 60.0 + _TIMEOUT_S
"""A tenant's list outlives the retention of its jobs by so much."""
_BOOKS: Final = (":bytes}:sizes", ":bytes}:until")
"""Two keys of each tenant, which live an hour longer than what they count."""
_CALLERS: Final = 4
_POLL_S: Final = 0.2


@dataclass
class Found:
    """The findings of a soak."""

    seconds: float
    requests: int = 0
    before: int = 0
    most: int = 0
    """The most keys that there were under load."""
    after: int = 0
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        reported = f"soak of {self.seconds:.0f} s: {self.requests:,} requests; keys before, most, after"
        lines = [f"{reported}  {self.before}, {self.most:,}, {self.after}"]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


async def soak(folder: Path, seconds: float, *, newcomer: bool = True) -> Found:
    """Request everything for so long, wait for the stored keys to expire, and count.

    With a `newcomer`, one tenant is new in it, and its list must expire too: a minute longer.
    """
    found = Found(seconds)
    async with running_fleet(folder, apart=True, **SETTINGS) as fleet:
        # The first round makes the keys that exist only once: the tenant's list, circuits of the provider.
        await _round(Client(fleet.ports[0]), "first", found)
        before = {name for name in await fleet.key_names() if "job_" not in name}
        found.before = len(before)
        until = time.monotonic() + seconds
        watch = asyncio.create_task(_watch(fleet, found))
        clients = [Client(fleet.ports[number % 2]) for number in range(_CALLERS)]
        if newcomer:
            clients.append(Client(fleet.ports[0], "sk-bob"))
        await asyncio.gather(*(_ask(client, number, until, found) for number, client in enumerate(clients)))
        watch.cancel()
        after = await _settled(fleet, before, _WITHIN_S + max(VIEWER_LEASE_S, RETENTION_S + newcomer * _LIST_S))
        found.after = len(after)
        if more := sorted(name for name in after - before if not name.endswith(_BOOKS)):
            found.problems.append(f"{len(more)} keys stay, {', '.join(more[:5])} among them.")
        found.problems += [*fleet.problems, *fleet.tracebacks()]
    return found


async def _settled(fleet: Fleet, before: set[str], within_s: float) -> set[str]:
    """Read the names of all keys once only those of before are left, or after the others' time to expire."""
    names: set[str] = set()
    for _ in range(int(within_s / _POLL_S)):
        names = await fleet.key_names()
        if all(name in before or name.endswith(_BOOKS) for name in names):
            break
        await asyncio.sleep(_POLL_S)
    return names


async def _watch(fleet: Fleet, found: Found) -> None:
    while True:
        found.most = max(found.most, len(await fleet.key_names()))
        await asyncio.sleep(1.0)


async def _ask(client: Client, number: int, until: float, found: Found) -> None:
    turn = 0
    while time.monotonic() < until:
        turn += 1
        await _round(client, f"{number}-{turn}", found)


async def _round(client: Client, name: str, found: Found) -> None:
    """Ask for each kind of thing once. `name` was not used before."""
    for wish in _WISHES:
        await wish(client, name, found)
        found.requests += 1


async def _job(client: Client, name: str, found: Found, **script: Any) -> str:
    body = ask(model=MODEL, **{"tokens": 5, "seed": len(name), **script})
    answer = await client.post("/v1/jobs", body, headers={"idempotency-key": name + str(script)})
    return str(_json(answer, 202, found)["id"])


def _json(answer: Any, status: int, found: Found) -> Any:
    if answer.status != status:
        found.problems.append(f"An answer has the status {answer.status}, not {status}: {answer.body[:200]!r}")
    return answer.json()


async def _read(client: Client, job_id: str, found: Found, last: str = "completed") -> None:
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        events = await response.events()
    if not events or events[-1].type.value != last:
        found.problems.append(f"A job of the soak has not {last}: {events[-1:]}")


async def _a_job_is_read(client: Client, name: str, found: Found) -> None:
    await _read(client, await _job(client, name, found), found)


async def _a_job_fails_and_is_asked_again(client: Client, name: str, found: Found) -> None:
    job_id = await _job(client, name, found, fault="cut")
    await _read(client, job_id, found, "failed")
    again = await client.post(f"/v1/dead-letters/{job_id}/requeue")
    if again.status == 202:  # its completion steps may not have run yet
        await _read(client, again.json()["id"], found, "failed")


async def _a_job_is_cancelled(client: Client, name: str, found: Found) -> None:
    job_id = await _job(client, name, found, tokens=1_000, rate=50)
    await client.post(f"/v1/jobs/{job_id}/cancel")
    await _read(client, job_id, found, "cancelled")


async def _a_chat_is_left(client: Client, name: str, found: Found) -> None:
    body = {**ask(model=MODEL, tokens=1_000, seed=1, rate=50), "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json_body=body) as response:
        await response.frame()


async def _a_chat_is_answered(client: Client, name: str, found: Found) -> None:
    _json(await client.post("/v1/chat/completions", ask(model=MODEL, tokens=3, seed=1)), 200, found)


async def _responses_follow_each_other(client: Client, name: str, found: Found) -> None:
    first = _json(await client.post("/v1/responses", {"model": MODEL, "input": "One"}), 200, found)
    after = {"model": MODEL, "input": "Two", "previous_response_id": first["id"]}
    second = _json(await client.post("/v1/responses", after), 200, found)
    _json(await client.request("DELETE", f"/v1/responses/{second['id']}"), 200, found)
    _json(await client.post("/v1/responses", {"model": MODEL, "input": "Three", "store": False}), 200, found)


async def _a_conversation_goes_on(client: Client, name: str, found: Found) -> None:
    for text in ("One", "Two"):
        message = {"id": f"u{text}", "role": "user", "parts": [{"type": "text", "text": text}]}
        body = {"model": MODEL, "id": name, "message": message, "trigger": "submit-message"}
        async with client.stream("POST", "/api/chat", json_body=body) as response:
            if b"[DONE]" not in await response.rest():
                found.problems.append("A turn of a conversation has no end.")


async def _texts_are_embedded(client: Client, name: str, found: Found) -> None:
    _json(await client.post("/v1/embeddings", {"model": MODEL, "input": [name, "text"]}), 200, found)


_WISHES: Final[tuple[Callable[[Client, str, Found], Awaitable[None]], ...]] = (
    _a_job_is_read,
    _a_job_fails_and_is_asked_again,
    _a_job_is_cancelled,
    _a_chat_is_left,
    _a_chat_is_answered,
    _responses_follow_each_other,
    _a_conversation_goes_on,
    _texts_are_embedded,
)
