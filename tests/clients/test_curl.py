"""Use the job API and OpenAI's dialect through curl, as a person at a terminal does."""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from shared.model.bounds import MIB
from shared.model.events import Event, EventType, decode_frame, encode_data, split_frames
from tests.clients.system import KEY, System
from tests.support.client import TIMEOUT_S
from tests.support.processes import Processes
from tests.support.upstream import ask, expected_text

CURL = shutil.which("curl")

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(CURL is None, reason="curl is not installed"),
]

AUTH = ("-H", f"Authorization: Bearer {KEY}")
JSON = ("-H", "Content-Type: application/json")
# curl's own words for it: "Partial file", "HTTP page not retrieved".
PARTIAL_FILE, HTTP_ERROR = 18, 22


class Said(NamedTuple):
    """The output of curl, heartbeats left out, and its exit status."""

    output: bytes
    status: int

    def json(self) -> Any:
        return json.loads(self.output)

    def events(self) -> list[Event]:
        return [decode_frame(frame) for frame in split_frames(self.output)]


@asynccontextmanager
async def curling(*arguments: str) -> AsyncIterator[Process]:
    """Start a curl; it has ended when the block has."""
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(CURL, "-sS", *arguments, stdin=DEVNULL, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def rest_of(process: Process) -> Said:
    """Wait for its end."""
    async with asyncio.timeout(2 * TIMEOUT_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return Said(without_heartbeats(output), process.returncode)


def without_heartbeats(printed: bytes) -> bytes:
    return re.sub(rb"^: hb\n", b"", printed, flags=re.MULTILINE)


async def curl(*arguments: str) -> Said:
    async with curling(*arguments) as process:
        return await rest_of(process)


async def read_until(process: Process, wanted: bytes) -> bytes:
    """Read its output up to and including this."""
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        return await process.stdout.readuntil(wanted)


async def read_delta(process: Process, text: str) -> bytes:
    """Read its output up to and including the event that says this, without heartbeats."""
    said = await read_until(process, b'"content":"%b"}' % text.encode())
    return without_heartbeats(said + await read_until(process, b"\n\n"))


def chat(url: str, request: dict[str, Any]) -> tuple[str, ...]:
    return ("-N", f"{url}/v1/chat/completions", *AUTH, *JSON, "-d", encode_data({**request, "stream": True}).decode())


def events_of(url: str, job_id: str) -> tuple[str, ...]:
    return ("-N", f"{url}/v1/jobs/{job_id}/events", *AUTH)


async def submit(system: System, request: dict[str, Any]) -> dict[str, Any]:
    said = await curl(f"{system.url}/v1/jobs", *AUTH, *JSON, "-d", encode_data(request).decode())
    job: dict[str, Any] = said.json()
    assert job["status"] in ("queued", "running"), job
    return job


async def cancel(system: System, printed: bytes) -> None:
    """Cancel the job of an answer that was printed with its headers."""
    job_id = printed.decode().lower().partition("x-tailrace-job: ")[2].partition("\r\n")[0]
    said = await curl("-X", "POST", f"{system.url}/v1/jobs/{job_id}/cancel", *AUTH)
    assert said.json()["status"] == "cancelled"


def text_of(events: list[Event]) -> str:
    return "".join(event.json().get("content", "") for event in events if event.type is EventType.DELTA)


async def test_a_chat_answer_is_printed_and_ends_with_done(system: System, model: str) -> None:
    request = ask(model=model, tokens=20)

    said = await curl(*chat(system.url, request))

    *frames, done, nothing = said.output.decode().split("\n\n")
    assert (said.status, done, nothing) == (0, "data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ").partition("\n")[0]) for frame in frames]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == expected_text(request)


async def test_a_chat_answer_is_printed_while_it_is_being_given(system: System, model: str) -> None:
    request = ask(model=model, text="one two three", fault="stall", after=2)

    async with curling("-i", *chat(system.url, request)) as process:
        head = await read_until(process, b"two ")
        (seen,) = await system.upstream.requests(model)
        assert seen["ended"] is None
        await cancel(system, head)
        said = await rest_of(process)

    assert said.status == 0
    assert b"[DONE]" not in said.output
    assert json.loads(said.output.decode().split("data: ")[-1])["error"]["code"] == "cancelled"


async def test_the_events_of_a_job_are_printed_while_they_happen(system: System, model: str) -> None:
    job = await submit(system, ask(model=model, text="one two three", fault="stall", after=2))

    async with curling(*events_of(system.url, job["id"])) as process:
        first = await read_delta(process, "two ")
        (seen,) = await system.upstream.requests(model)
        assert seen["ended"] is None
        cancelled = await curl("-X", "POST", system.url + job["links"]["cancel"], *AUTH)
        rest = await rest_of(process)

    assert cancelled.json()["status"] == "cancelled"
    assert rest.status == 0
    assert [event.type for event in Said(first + rest.output, 0).events()] == [
        EventType.QUEUED,
        EventType.STARTED,
        EventType.DELTA,
        EventType.DELTA,
        EventType.CANCELLED,
    ]


async def test_a_job_continues_when_its_reader_leaves_and_the_next_one_gets_the_rest(
    system: System, model: str
) -> None:
    request = ask(model=model, text="one two three four five six", rate=20)
    job = await submit(system, request)
    address = events_of(system.url, job["id"])

    async with curling(*address) as process:
        read = await read_delta(process, "two ")
    seen = Said(read, 0).events()
    rest = await curl(*address, "-H", f"Last-Event-ID: {seen[-1].id}")
    whole = await curl(*address)

    assert read + rest.output == whole.output
    assert (rest.status, whole.status) == (0, 0)
    assert text_of(whole.events()) == expected_text(request)
    assert whole.events()[-1].type is EventType.COMPLETED
    for number, event in enumerate(seen, 1):
        by_query = await curl(f"{address[1]}?last_event_id={event.id}", *AUTH)
        assert by_query.events() == whole.events()[number:]


async def test_the_link_of_a_job_needs_no_key(system: System, model: str) -> None:
    request = ask(model=model, tokens=5)
    job = await submit(system, request)

    said = await curl("-N", system.url + job["links"]["events"])
    refused = await curl("-w", "%{http_code}", f"{system.url}/v1/jobs/{job['id']}/events")

    assert text_of(said.events()) == expected_text(request)
    assert refused.output.endswith(b"401")


async def test_nothing_after_the_end_is_204(system: System, model: str) -> None:
    job = await submit(system, ask(model=model, tokens=2))
    address = events_of(system.url, job["id"])
    end = (await curl(*address)).events()[-1].id

    said = await curl(*address, "-H", f"Last-Event-ID: {end}", "-w", "%{http_code}")

    assert said == Said(b"204", 0)


async def test_head_returns_the_headers_that_get_would(system: System, model: str) -> None:
    job = await submit(system, ask(model=model, fault="stall", after=1))

    said = await curl("-I", *events_of(system.url, job["id"])[1:])

    status, *headers = said.output.decode().strip().split("\r\n")
    assert (said.status, status.split(" ")[1]) == (0, "200")
    assert "content-type: text/event-stream" in headers
    assert "cache-control: no-cache, no-transform" in headers
    assert f"x-tailrace-job: {job['id']}" in headers
    await curl("-X", "POST", system.url + job["links"]["cancel"], *AUTH)


async def test_a_repeated_submit_with_the_same_key_is_the_same_job(system: System, model: str) -> None:
    body = encode_data(ask(model=model, tokens=1)).decode()
    call = (f"{system.url}/v1/jobs", *AUTH, *JSON, "-H", f"Idempotency-Key: {model}", "-w", " %{http_code}", "-d")

    first, second, other = [await curl(*call, each) for each in (body, body, body.replace("user", "system"))]

    assert json.loads(first.output[:-4])["id"] == json.loads(second.output[:-4])["id"]
    assert [each.output[-3:] for each in (first, second, other)] == [b"202", b"202", b"422"]


@pytest.mark.parametrize(
    ("path", "status", "type_"),
    [
        ("/v1/jobs/job_00000000000000000000000000", 404, "application/problem+json"),
        ("/v1/nowhere", 404, "application/json"),
        ("/v1/chat/completions", 405, "application/json"),
    ],
)
async def test_curls_fail_option_detects_an_error(system: System, path: str, status: int, type_: str) -> None:
    said = await curl("--fail-with-body", system.url + path, *AUTH, "-w", "\n%{http_code} %{content_type}")

    body, _, tail = said.output.decode().rpartition("\n")
    assert (said.status, tail) == (HTTP_ERROR, f"{status} {type_}")
    assert json.loads(body)


@pytest.mark.parametrize("how", ["Content-Length", "Transfer-Encoding: chunked", "Expect:"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/chat/completions"])
async def test_a_body_that_is_too_large_gets_an_answer_and_no_broken_pipe(
    system: System, tmp_path_factory: pytest.TempPathFactory, path: str, how: str
) -> None:
    body = tmp_path_factory.mktemp("curl") / "body.json"
    body.write_bytes(encode_data(ask(text="x" * 16 * MIB)))  # more than sockets hold
    extra = () if how == "Content-Length" else ("-H", how)

    said = await curl(system.url + path, *AUTH, *JSON, *extra, "--data-binary", f"@{body}", "-w", "\n%{http_code}")

    answer, _, status = said.output.decode().rpartition("\n")
    assert (said.status, status) == (0, "413")
    assert "body_too_large" in answer


async def test_a_gateway_that_shuts_down_breaks_its_readers_off_and_another_has_the_rest(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    request = ask(model=model, text="one two three four five", fault="stall", after=2, stall_s=2.0)
    job = await submit(system, request)

    async with curling(*events_of(gateway.url, job["id"])) as process:
        read = await read_delta(process, "two ")
        await gateway.stop()
        broken = await rest_of(process)
    *frames, retry_line, nothing = (read + broken.output).decode().split("\n\n")
    last = frames[-1].partition("\nid: ")[2]
    rest = await curl(*events_of(system.url, job["id"]), "-H", f"Last-Event-ID: {last}")

    assert broken.status == PARTIAL_FILE
    assert retry_line.startswith("retry: ")
    assert nothing == ""
    together = "".join(frame + "\n\n" for frame in frames).encode() + rest.output
    assert text_of(Said(together, 0).events()) == expected_text(request)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_a_chat_answer_that_its_gateway_can_not_finish_is_a_partial_file(
    processes: Processes, main_prefix: str, system: System, model: str, how: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix, drain_s=0.1)
    request = ask(model=model, text="one two three", fault="stall", after=2)

    async with curling("-i", *chat(gateway.url, request)) as process:
        head = await read_until(process, b"two ")
        await (gateway.stop() if how == "stop" else gateway.crash())
        said = await rest_of(process)

    assert said.status == PARTIAL_FILE
    assert b"[DONE]" not in said.output
    if how == "crash":  # then no gateway reports that the caller left until the lease is over
        await cancel(system, head)
    await system.upstream.until_closed(model)
