"""The README's examples, run as they stand there."""

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from shared.model.events import EventId, EventType, decode_frame, parse_id, split_frames
from shared.process.child import start_child, stop_child
from tests.clients.system import KEY, ObservedUpstream, System
from tests.support.client import TIMEOUT_S
from tests.support.docs import DOCS
from tests.support.processes import Processes
from tests.support.upstream import expected_text
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")

MODEL = "smollm2-135m-instruct"
PROMPT = "Name three rivers."
# A program that starts on a busy machine takes its time.
PROGRAM_S = 20.0

# The page's report to the test: some events, and at the end the text and whether the EventSource is closed.
REPORT = """
for (const name of ["delta", "rollback"]) events.addEventListener(name, () => console.log(name));
events.addEventListener("completed", () => {
  const text = deltas.map((d) => d.text).join("");
  console.log(JSON.stringify({ text, closed: events.readyState === 2 }));
});
"""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert found
    return found


def shell_statements() -> list[str]:
    """Return the commands of the shell examples, but for one with a module of its own (test_own_functions.py)."""
    lines = "".join(blocks("sh")).replace("\\\n", "").splitlines()
    return [line for line in lines if line.startswith(("curl ", "export "))]


def answer_to(prompt: str) -> str:
    return expected_text({"model": MODEL, "messages": [{"role": "user", "content": prompt}]})


async def run(argv: list[str], env: Mapping[str, str], *, within_s: float = PROGRAM_S) -> bytes:
    """Run a program and return its output; it must succeed."""
    process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(within_s):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode == 0, errors.decode()
    return output


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def site(processes: Processes, system: System, main_prefix: str) -> System:
    """Start the processes of `make run`, as far as a client sees them."""
    gateway = await processes.gateway(key_prefix=main_prefix, models=(MODEL,))
    return System(gateway.url, system.upstream)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
async def test_the_shell_examples_print_the_output_in_the_readme(site: System) -> None:
    env = {"TAILRACE": site.url, "KEY": KEY}
    named: set[str] = set()
    printed: list[bytes] = []
    for statement in shell_statements():
        if statement.startswith("export "):
            named.update(re.findall(r"(\w+)=", statement))
            continue
        assert set(re.findall(r"\$(\w+)", statement)) <= named, "the reader does not know it"
        printed.append(await run(["bash", "-c", statement], env))
        if printed[-1].startswith(b'{"id":"job_'):
            env["JOB"] = json.loads(printed[-1])["id"]
        elif printed[-1].startswith(b'{"task_id":"job_'):
            env["TASK"] = json.loads(printed[-1])["task_id"]

    chat, submitted, whole, rest, rest_of_chat, _, task, _, progress, result = printed
    assert named == {"TAILRACE", "KEY", "JOB", "TASK"}
    assert (json.loads(task)["task_id"], json.loads(task)["status"]) == (env["TASK"], "SUCCESS")
    assert chat_text(chat) == answer_to(PROMPT)
    assert json.loads(submitted)["links"]["events"].startswith(f"/v1/jobs/{json.loads(submitted)['id']}/events?token=")
    events = [decode_frame(frame) for frame in split_frames(whole)]
    said = [event.json().get("content", "") for event in events if event.type is EventType.DELTA]
    assert ("".join(said), events[-1].type) == (answer_to(PROMPT), EventType.COMPLETED)
    assert rest.startswith(b"event: delta\n")
    assert whole.endswith(rest)
    assert parse_id(rest.split(b"\n\n")[0].rpartition(b"id: ")[2]) == EventId(1, 18)
    events = [decode_frame(frame) for frame in split_frames(rest)]
    said = [event.json().get("content", "") for event in events if event.type is EventType.DELTA]
    assert chat_text(rest_of_chat) == "".join(said)
    types = [decode_frame(frame).type for frame in split_frames(progress)]
    assert types == [EventType.QUEUED, EventType.STARTED, EventType.PROGRESS, EventType.COMPLETED]
    assert len(json.loads(result)["data"]) == 3


def chat_text(stream: bytes) -> str:
    """Return the text of a chat's stream; it must be done."""
    *chunks, done = stream.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    data = [json.loads(chunk.removeprefix("data: ").partition("\n")[0]) for chunk in chunks]
    return "".join(each["choices"][0]["delta"].get("content", "") for each in data)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.timeout(120)
async def test_the_command_line_examples_run_as_they_stand(
    site: System, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (program,) = (block for block in blocks("sh") if "tailrace submit" in block)
    tools = tmp_path_factory.mktemp("tools")
    for name, command in (("tailrace", f"exec {sys.executable} -P -m gateway"), ("git", "echo a")):
        (tools / name).write_text(f'#!/bin/sh\n{command} "$@"\n')
        (tools / name).chmod(0o755)
    # An admin's, as the key is that `make run` makes.
    env = {"TAILRACE_URL": site.url, "TAILRACE_API_KEY": "sk-root", "PATH": f"{tools}:{os.environ['PATH']}"}

    shell = ["bash", "-euo", "pipefail", "-c", f'{program}echo "$summary $job"']
    printed = (await run(shell, env, within_s=5 * PROGRAM_S)).decode()

    answer = answer_to(PROMPT)
    first, review, chained, tail, rest = printed.split("\n", 4)
    assert chained.startswith(f"You said: “Sort: {answer}"[:60])
    assert (first, review, tail) == (answer, answer_to("a diff"), answer)
    assert re.search(rf"^{re.escape(answer)} (job_\w+)\n\Z", rest, re.MULTILINE)
    assert re.match(r"job_\w+ completed\n", rest)


@pytest.mark.parametrize("number", [0, 1], ids=["chat", "responses"])
async def test_the_openai_examples_print_the_answer(site: System, number: int) -> None:
    programs = [program for program in blocks("python") if "from openai" in program]

    printed = await run([sys.executable, "-c", programs[number]], {"TAILRACE": site.url, "KEY": KEY})

    assert printed.decode() == answer_to(PROMPT)
    assert len(programs) == 3


async def test_the_openai_example_that_embeds_compares_vectors(site: System) -> None:
    printed = await run([sys.executable, "-c", blocks("python")[2]], {"TAILRACE": site.url, "KEY": KEY})

    # Of vectors that mean nothing: tests/interaction/test_up.py asks a real model.
    assert printed.decode() in ("True\n", "False\n")


@asynccontextmanager
async def open_page(folder: Path, site: System, prompt: str = PROMPT) -> AsyncIterator[Process]:
    """Provide the README's page, with this prompt."""
    example, _ = blocks("js")  # the other one: test_fetch_event_source.py
    example = example.replace(json.dumps(PROMPT), json.dumps(prompt))
    assert json.dumps(prompt) in example
    (folder / "example.js").write_text('import "./page.js";\n' + example + REPORT)
    env = {**os.environ, "TAILRACE": site.url, "KEY": KEY}
    page = await start_child(["node", str(folder / "example.js")], env=env, output=PIPE)
    try:
        yield page
    finally:
        await stop_child(page, TIMEOUT_S)


async def read_until(page: Process, wanted: str) -> str:
    """Return the page's next line that starts like this."""
    assert page.stdout is not None
    said = b""
    async with asyncio.timeout(PROGRAM_S):
        while line := await page.stdout.readline():
            said += line
            if line.startswith(wanted.encode()):
                return line.decode()
    raise AssertionError(said.decode())


async def test_the_event_source_example_collects_the_answer(site: System, js: Path) -> None:
    async with open_page(js, site) as page:
        collected = json.loads(await read_until(page, "{"))

    assert collected == {"text": answer_to(PROMPT), "closed": True}


@pytest.mark.timeout(120)
async def test_the_event_source_example_loses_nothing_when_a_worker_and_a_gateway_die(
    processes: Processes, upstream: ObservedUpstream, js: Path
) -> None:
    prefix = fresh_prefix()
    worker = {"key_prefix": prefix, "upstream_url": upstream.base_url, "lease_s": 0.5}
    first_worker, gateway = await asyncio.gather(processes.worker(**worker), processes.gateway(key_prefix=prefix))
    prompt = json.dumps({"script": {"text": "one two three four five six seven eight nine ten", "rate": 4}})

    async with open_page(js, System(gateway.url, upstream), prompt) as page:
        await read_until(page, "delta")
        await first_worker.crash()
        await processes.worker(**worker)
        await read_until(page, "rollback")
        await read_until(page, "delta")
        await gateway.crash()
        await processes.gateway(key_prefix=prefix, port=int(gateway.url.rpartition(":")[2]))
        collected = json.loads(await read_until(page, "{"))

    assert collected == {"text": answer_to(prompt), "closed": True}
