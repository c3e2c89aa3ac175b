"""Compare the answers of an embeddings job that two workers share with recorded ones, byte by byte.

`embeddings/taken_over.events` is its log as Redis holds it, `.float.json` and `.base64.json` are its result.
The scripted provider makes the vectors; a drain makes the second worker take over.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
from openai import OpenAI

from shared.config.settings import Settings
from shared.model.events import decode_frame, split_frames
from tests.support.controlled_provider import ControlledProvider
from tests.support.system import running_system, running_worker
from worker.upstream.wire.vectors import pack

RECORDINGS = Path(__file__).parent / "embeddings"
JOB = "job_01hf7yat000000000000000005"
INPUTS = ["A river.", *(["\n"] * 99), "naïve 東京 🌊"]


def recorded(name: str) -> bytes:
    return (RECORDINGS / f"taken_over.{name}").read_bytes()


def test_the_recorded_end_proves_the_recorded_result() -> None:
    events = [decode_frame(frame) for frame in split_frames(recorded("events"))]
    vectors = [item["embedding"] for item in json.loads(recorded("float.json"))["data"]]

    reported: dict[str, Any] = events[-1].json()["result"]
    assert reported["sha256"] == hashlib.sha256(b"".join(map(pack, vectors))).hexdigest()
    assert (reported["inputs"], reported["dimensions"]) == (len(INPUTS), len(vectors[0]))


def test_the_official_client_reads_the_recorded_result_in_either_encoding() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        encoding = json.loads(request.content)["encoding_format"]
        return httpx2.Response(200, content=recorded(f"{encoding}.json"), headers={"content-type": "application/json"})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with OpenAI(api_key="sk-test", base_url="http://tailrace.test/v1", max_retries=0, http_client=http) as openai:
        by_default = openai.embeddings.create(model="mock", input="-")
        in_floats = openai.embeddings.create(model="mock", input="-", encoding_format="float")

    assert [item.embedding for item in by_default.data] == [item.embedding for item in in_floats.data]
    assert by_default.usage == in_floats.usage


async def test_the_job_matches_the_recording(settings: Settings) -> None:
    settings = settings.model_copy(update={"drain_s": 0.0})
    first, second = ControlledProvider(), ControlledProvider()
    async with running_system(settings) as system:
        async with running_worker(settings, first) as worker:
            job_id = await system.submit({"kind": "embeddings", "model": "mock", "input": INPUTS})
            (await first.call()).embed()
            await first.call(1)
            worker.drain()
            await worker.stopped()
        async with running_worker(settings, second):
            (await second.call()).embed()
            await system.story(job_id)
        answers = {"events": await system.core.log_bytes(job_id)}
        for encoding in ("float", "base64"):
            address = f"/v1/jobs/{job_id}/result?encoding_format={encoding}"
            answers[f"{encoding}.json"] = (await system.client.get(address)).body

    for name, said in answers.items():
        assert said.replace(job_id.encode(), JOB.encode()) == recorded(name)
