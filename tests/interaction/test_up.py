"""`tailrace up`, for real: one command brings everything up, keeps it up, and leaves nothing behind."""

import asyncio
import json
import math
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from shared.model.events import TERMINAL_EVENTS, Event, decode_frame
from tests.support.client import Client
from tests.support.core import Watched
from tests.support.processes import START_S, Command, gone, offspring
from tests.support.system import proven
from tests.support.upstream import ask as scripted
from tests.support.upstream import expected_text

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds the parts in /proc"),
    pytest.mark.timeout(120),
    pytest.mark.slow(3, "starts all that `tailrace up` starts"),
]

SCRIPTED = {"TAILRACE_UPSTREAM_URL": "scripted:"}
CHAT = "/v1/chat/completions"


class Site(NamedTuple):
    """A running `tailrace up`, and how to call it."""

    command: Command
    url: str
    key: str

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def part(self, words: str) -> int:
        """Return the process id of the part with these words in its command line."""
        (pid,) = self.parts(words)
        return pid

    def parts(self, words: str) -> list[int]:
        """Return the process ids of the parts with these words in their command lines."""
        return [pid for pid, line in offspring(self.command.pid).items() if words in line]


@asynccontextmanager
async def up(data_dir: Path, env: dict[str, str] | None = None) -> AsyncIterator[Site]:
    """`tailrace up` on a free port, up to its banner."""
    command = await Command.run("up", env=environment(data_dir, env))
    try:
        said = await command.until("Ctrl-C stops")
        found = re.search(r"(http://127\.0\.0\.1:\d+)/#key=(sk-tailrace-dev-\S+)", said)
        assert found, said
        yield Site(command, found[1], found[2])
    finally:
        await command.close()


def environment(data_dir: Path, env: dict[str, str] | None = None) -> dict[str, str]:
    common = {"TAILRACE_PORT": "0", "TAILRACE_DATA_DIR": str(data_dir), "TAILRACE_DRAIN_S": "1"}
    return common | (SCRIPTED if env is None else env)


def question(model: str, text: str = "Say something.", **parameters: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **parameters}


async def ask(site: Site, model: str = "scripted") -> str:
    async with site.client() as client:
        answer = await client.post(CHAT, json=question(model))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])


async def test_ctrl_c_stops_all_parts_in_order_and_the_next_start_has_the_same_data(tmp_path: Path) -> None:
    async with up(tmp_path) as site:
        async with site.client() as client:
            made = await client.post("/v1/jobs", json=question("scripted"))
            assert made.status_code == 202, made.text
            job = made.headers["location"]
            before = (await client.get(job + "/events")).content
            assert b"event: completed" in before
        async with httpx2.AsyncClient(base_url=site.url) as anybody:
            assert "tailrace_redis_up 1" in (await anybody.get("/metrics")).text
        parts = offspring(site.command.pid)
        assert len(parts) == 3  # Valkey, worker, gateway
        site.command.press_ctrl_c()
        assert await site.command.ended() == 0
        await gone(parts)
        assert "Traceback" not in site.command.said
        assert "part.died" not in site.command.said
    async with up(tmp_path) as again:
        assert again.key == site.key
        async with again.client() as client:
            assert (await client.get(job + "/events")).content == before


async def test_with_nothing_configured_a_real_model_answers(tmp_path: Path) -> None:
    async with up(tmp_path, env={}) as site, site.client() as client:
        assert "smollm2-135m-instruct (on this machine)" in site.command.said
        asked = question("smollm2-135m-instruct", "What is the capital of France?", stream=True, temperature=0)
        async with client.stream("POST", CHAT, json=asked) as answer:
            lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
        assert "Paris" in text
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_the_real_model_embeds_similar_sentences_close_together(tmp_path: Path) -> None:
    pairs = [
        ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
        ("The central bank raised interest rates.", "Borrowing became dearer after the bank's decision."),
        ("How do I install Python?", "What is the way to set up Python on my computer?"),
    ]
    texts = [text for pair in pairs for text in pair]
    async with up(tmp_path, env={}) as site, site.client() as client:
        models = (await client.get("/v1/models")).json()["data"]
        body = {"model": models[0]["id"], "input": texts}
        answer = (await client.post("/v1/embeddings", json=body)).json()
        too_long = await client.post("/v1/embeddings", json={**body, "input": "word " * 2000})

    vectors = [item["embedding"] for item in answer["data"]]
    nearest = [
        max((other for other in range(6) if other != i), key=lambda other: near(vectors[i], vectors[other]))
        for i in range(6)
    ]
    assert nearest == [1, 0, 3, 2, 5, 4]
    assert (len(vectors[0]), answer["usage"]["prompt_tokens"] > 30) == (576, True)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")


def near(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


async def test_the_scripted_model_answers_with_a_notice_if_the_local_one_cannot_run(tmp_path: Path) -> None:
    missing = tmp_path / "xllamacpp.py"
    missing.write_text("raise ImportError('no wheel for this platform')\n")
    async with up(tmp_path / "data", env={"PYTHONPATH": str(tmp_path)}) as site:
        assert "scripted answers, since the local model can't run here" in site.command.said
        assert "no wheel for this platform" in site.command.said
        assert await ask(site)


@pytest.mark.parametrize("part", ["worker", "gateway serve", "valkey-server"])
async def test_a_part_that_is_killed_is_started_again(part: str, tmp_path: Path) -> None:
    async with up(tmp_path) as site:
        first = site.part(part)
        os.kill(first, signal.SIGKILL)
        await site.command.until("part.restarted")
        assert site.part(part) != first
        assert await ask(site)


async def test_a_killed_tailrace_leaves_nothing_running(tmp_path: Path) -> None:
    async with up(tmp_path) as site:
        parts = offspring(site.command.pid)
        site.command.send(signal.SIGKILL)
        assert await site.command.ended() == -signal.SIGKILL
        await gone(parts, timeout_s=15)


async def test_ctrl_c_while_a_part_is_starting_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        knocks = f"import socket, time\nknock = socket.create_connection({door.getsockname()})\ntime.sleep(60)\n"
        (tmp_path / "xllamacpp.py").write_text(knocks)
        command = await Command.run("up", env=environment(tmp_path / "data", {"PYTHONPATH": str(tmp_path)}))
        try:
            starting, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(door), START_S)
            with starting:
                parts = offspring(command.pid)
                assert len(parts) == 2  # Valkey and the local model
                command.press_ctrl_c()
                assert await command.ended() == 0
                await gone(parts)
        finally:
            await command.close()
    assert "Traceback" not in command.said


async def test_a_part_that_cannot_start_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    nowhere = {**SCRIPTED, "TAILRACE_STREAM_REDIS_URL": "redis://127.0.0.1:1"}
    command = await Command.run("up", env=environment(tmp_path, nowhere))
    try:
        assert await command.ended() == 2
    finally:
        await command.close()
    assert "tailrace: The worker 1 did not start (exit status 2): Redis does not answer" in command.said
    assert "Traceback" not in command.said
    assert "#key=" not in command.said
    assert not (tmp_path / "valkey.pid").exists()


@pytest.mark.parametrize("gateways", [1, 2])
async def test_a_port_in_use_is_refused_before_anything_starts(gateways: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        port = listener.getsockname()[1]
        ours = {"TAILRACE_PORT": str(port), "TAILRACE_GATEWAYS": str(gateways)}
        command = await Command.run("up", env={**environment(tmp_path), **ours})
        assert await command.ended() == 2
    assert command.said.startswith(f"tailrace: Port {port} on 127.0.0.1 is in use; set TAILRACE_PORT")
    assert command.said.count("\n") == 1
    assert not (tmp_path / "valkey.log").exists()


class Reader:
    """A client that reads a job to its end, and reconnects when it is cut off."""

    def __init__(self, client: Client, job_id: str, changed: Watched) -> None:
        self._client, self._path, self._changed = client, f"/v1/jobs/{job_id}/events", changed
        self.events: list[Event] = []
        self.cut_off = False

    async def read(self) -> None:
        while not self.events or self.events[-1].type not in TERMINAL_EVENTS:
            try:
                await self._read_on()
            except (ConnectionError, EOFError):
                # A client can reconnect so soon that the dying gateway's socket still accepts it: it is cut off again.
                self.cut_off = True

    async def _read_on(self) -> None:
        cursor = {"Last-Event-ID": str(self.events[-1].id)} if self.events else {}
        async with self._client.stream("GET", self._path, headers=cursor) as response:
            while frame := await response.frame():
                self.events.append(decode_frame(frame))
                self._changed.change()
            self.cut_off |= not response.complete


async def test_gateways_share_the_port_and_when_one_is_killed_only_its_readers_are_cut_off_and_lose_nothing(
    tmp_path: Path,
) -> None:
    async with up(tmp_path, env={**SCRIPTED, "TAILRACE_GATEWAYS": "2"}) as site:
        first, second = site.parts("gateway serve")
        client = Client(int(site.url.rpartition(":")[2]), site.key)
        body = scripted(tokens=60, rate=20)
        job_id = (await client.post("/v1/jobs", body)).json()["id"]
        changed = Watched()
        # Enough of them that each gateway has some, and more.
        readers = [Reader(client, job_id, changed) for _ in range(30)]
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read())
            await changed.until(lambda: all(len(reader.events) > 2 for reader in readers))
            os.kill(first, signal.SIGKILL)
            await gone([first])
            # A gateway answers at all times.
            for _ in range(10):
                assert (await client.get("/health/ready")).status == 200

        for reader in readers:
            assert proven(reader.events).text == expected_text(body)
        assert 0 < sum(reader.cut_off for reader in readers) < len(readers)

        await site.command.until("part.restarted")
        os.kill(second, signal.SIGKILL)
        await gone([second])
        assert await ask(site)  # by the one that came back
        await site.command.until("part.restarted", times=2)
        assert len(set(site.parts("gateway serve")) - {first, second}) == 2


async def test_a_gateway_without_the_setting_to_share_finds_the_port_in_use(tmp_path: Path) -> None:
    async with up(tmp_path, env={**SCRIPTED, "TAILRACE_GATEWAYS": "2"}) as site:
        port = site.url.rpartition(":")[2]
        alone = {"TAILRACE_PORT": port, "TAILRACE_REDIS_URL": "redis://127.0.0.1:1"}
        command = await Command.run("serve", env={**environment(tmp_path), **alone})
        assert await command.ended() == 2
        assert f"tailrace: Port {port} on 127.0.0.1 is in use; set TAILRACE_PORT" in command.said


async def test_ctrl_c_stops_every_gateway(tmp_path: Path) -> None:
    async with up(tmp_path, env={**SCRIPTED, "TAILRACE_GATEWAYS": "3", "TAILRACE_WORKERS": "2"}) as site:
        parts = offspring(site.command.pid)
        assert len(parts) == 6
        site.command.press_ctrl_c()
        assert await site.command.ended() == 0
        await gone(parts)
        assert "Traceback" not in site.command.said
        assert "part.died" not in site.command.said


async def test_a_second_one_in_the_same_folder_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    async with up(tmp_path) as site:
        second = await Command.run("up", env=environment(tmp_path))
        assert await second.ended() == 2
        assert second.said.startswith("tailrace: Another `tailrace up` is using")
        assert second.said.count("\n") == 1
        assert await ask(site)


async def test_a_second_ctrl_c_does_not_wait_for_running_jobs(tmp_path: Path) -> None:
    async with up(tmp_path, env={**SCRIPTED, "TAILRACE_DRAIN_S": "60"}) as site, site.client() as client:
        endless = json.dumps({"script": {"tokens": 1_000_000, "rate": 20}})
        async with client.stream("POST", CHAT, json=question("scripted", endless, stream=True)) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            parts = offspring(site.command.pid)
            site.command.press_ctrl_c()
            await site.command.until("gateway.draining")
            site.command.press_ctrl_c()
            assert await asyncio.wait_for(site.command.ended(), 5) == 0
            await gone(parts)
