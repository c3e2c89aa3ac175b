"""Test what the commands say and return if a gateway, a worker, Redis or the command line itself is at fault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.client.model.exit_status import ExitStatus
from tests.clients.commands import NO_SUCH_JOB, Ended, Tailrace, answer, one_sentence, screen, script, submitted
from tests.clients.system import ObservedUpstream, System
from tests.support.core import open_core
from tests.support.ports import reserve_port
from tests.support.processes import Processes
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")
FULL = Path("/dev/full")
TEN = "one two three four five six seven eight nine ten"


async def test_a_gateway_that_is_killed_in_mid_answer_is_waited_for(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    port = reserve_port()
    gateway = await processes.gateway(key_prefix=main_prefix, port=port)
    tailrace = Tailrace(gateway.url)
    prompt = script(text=TEN, rate=4)
    piped = tailrace.running("submit", "--model", model, prompt)
    streamed = tailrace.running("submit", "--stream", "--model", model, prompt)
    async with piped as first, streamed as second:
        await second.until("two ")
        await gateway.crash()
        await processes.gateway(key_prefix=main_prefix, port=port)
        whole, as_it_came = await asyncio.gather(first.ended(), second.ended())

    assert (whole.status, whole.output) == (0, answer(prompt))
    assert (as_it_came.status, as_it_came.output) == (0, answer(prompt))


async def test_the_command_gives_up_a_gateway_that_stays_away_and_says_so(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    arguments = ("submit", "--stream", "--patience", "3", "--model", model, script(text=TEN, fault="stall", after=2))
    async with Tailrace(gateway.url).running(*arguments) as command:
        await command.until("two ")
        await gateway.crash()
        ended = await command.ended()

    assert ended.status == ExitStatus.UNREACHED
    outage, given_up = ended.errors.splitlines()
    assert outage.endswith("Connection refused. Trying again; Ctrl-C ends it.")
    assert given_up == f"tailrace: The gateway at {gateway.url} can't be reached: Connection refused."


async def test_a_gateway_that_is_not_there_is_one_sentence() -> None:
    port = reserve_port()

    ended = await Tailrace(f"http://127.0.0.1:{port}")("submit", "--model", "small", "Hello?")

    assert ended.status == ExitStatus.UNREACHED
    assert one_sentence(ended) == f"The gateway at http://127.0.0.1:{port} can't be reached: Connection refused."


async def test_with_a_retry_window_a_gateway_may_start_later(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    port = reserve_port()
    arguments = ("submit", "--patience", "30", "--model", model, "Hello?")
    async with Tailrace(f"http://127.0.0.1:{port}").running(*arguments) as command:
        await processes.gateway(key_prefix=main_prefix, port=port)
        ended = await command.ended()

    assert (ended.status, ended.output) == (0, answer("Hello?"))


async def test_an_answer_that_a_killed_worker_began_is_taken_back_wherever_it_can_be(
    processes: Processes, upstream: ObservedUpstream
) -> None:
    prefix = fresh_prefix()
    worker = {"key_prefix": prefix, "upstream_url": upstream.base_url, "lease_s": 0.5}
    gateway = await processes.gateway(key_prefix=prefix)
    tailrace = Tailrace(gateway.url)
    prompt = script(text=TEN.replace(" ", "\n"), fault="stall", after=4, stall_s=4)
    job_id = await submitted(System(gateway.url, upstream).client, "small", prompt)

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        piped = await enter(tailrace.running("tail", job_id))
        streamed = await enter(tailrace.running("tail", job_id, "--stream"))
        large = await enter(tailrace.running("tail", job_id, terminal=True))
        small = await enter(tailrace.running("tail", job_id, terminal=True, rows=3))
        first = await processes.worker(**worker)
        for reader in (streamed, large, small):
            await reader.until("four\n")
        await first.crash()
        await processes.worker(**worker)
        whole, void, erased, reported = [await reader.ended() for reader in (piped, streamed, large, small)]

    why = "The attempt was lost (worker_lost)."
    assert whole == Ended(0, answer(prompt), "")
    assert void.status == ExitStatus.FAILED
    assert one_sentence(void) == f"{why} Discard what was written. To read it: tailrace tail {job_id}"
    assert screen(erased.output).startswith(f"[{why} The answer starts anew.]\n{answer(prompt)}tailrace: {job_id}, ")
    kept, _, anew = screen(reported.output).partition(f"\n[{why} What stands above is void.]\n")
    assert kept.startswith("one\ntwo\nthree\nfour\n")
    assert anew.startswith(answer(prompt))
    assert (erased.status, reported.status) == (0, 0)


async def test_a_job_that_a_killed_redis_lost_is_submitted_again(
    processes: Processes, upstream: ObservedUpstream, redis_url: str, model: str
) -> None:
    prefix, port = fresh_prefix(), reserve_port()
    worker, gateway = {"key_prefix": prefix, "upstream_url": upstream.base_url}, {"key_prefix": prefix, "port": port}
    parts = await asyncio.gather(processes.worker(**worker), processes.gateway(**gateway))
    tailrace = Tailrace(f"http://127.0.0.1:{port}")
    prompt = script(text="one two three", fault="stall", after=2, stall_s=2)
    arguments = ("submit", "--patience", "30", "--model", model, prompt)
    async with tailrace.running(*arguments, terminal=True) as shown, tailrace.running(*arguments) as piped:
        await shown.until("two ")
        await upstream.until_asked(model, times=2)
        for part in parts:
            await part.crash()
        async with open_core(redis_url, prefix) as core:
            await core.client.delete(*[key async for key in core.client.scan_iter(f"{prefix}:*")])
        await asyncio.gather(processes.worker(**worker), processes.gateway(**gateway))
        seen, whole = await asyncio.gather(shown.ended(), piped.ended())

    why = "The gateway's log does not hold what was read."
    assert screen(seen.output).partition(f"[{why} The answer starts anew.]\n")[2].startswith(answer(prompt))
    assert (whole.status, whole.output) == (0, answer(prompt))


@pytest.mark.parametrize("key", ["sk-nobody", "sk-bob"])
async def test_a_job_that_the_key_does_not_open_is_refused(
    tailrace: Tailrace, system: System, model: str, key: str
) -> None:
    job_id = await submitted(system.client, model, "Hello?")

    ended = await Tailrace(system.url, key)("tail", job_id)

    assert (ended.status, ended.output) == (ExitStatus.REFUSED, "")
    assert one_sentence(ended) in ("This API key is not valid.", f"There is no job {job_id}.")


async def test_a_model_that_the_gateway_does_not_serve_is_refused(
    processes: Processes, main_prefix: str, system: System
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix, models=("small",))

    ended = await Tailrace(gateway.url)("submit", "--model", "large", "Hello?")

    assert ended.status == ExitStatus.REFUSED
    assert one_sentence(ended) == "The model 'large' does not exist; the models are: small."


async def test_a_model_that_the_upstream_does_not_know_fails_the_job(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", f"unknown-{model}", "Hello?")

    assert ended.status == ExitStatus.FAILED
    assert f"There is no model 'unknown-{model}'" in one_sentence(ended)


@pytest.mark.parametrize("terminal", [True, False])
async def test_ctrl_c_leaves_the_job_running_and_prints_how_to_continue(
    tailrace: Tailrace, system: System, model: str, terminal: bool
) -> None:
    prompt = script(text="one two three", fault="stall", after=2, stall_s=2)
    arguments = ("submit", "--stream", "--model", model, prompt)
    async with tailrace.running(*arguments, terminal=terminal) as command:
        await command.until("one two ")
        command.press_ctrl_c()
        ended = await command.ended()

    assert ended.status == ExitStatus.INTERRUPTED
    said = ended.output if terminal else ended.errors
    assert "Traceback" not in said
    job_id = said.partition("tailrace tail ")[2].partition(";")[0]
    assert f"to end it: tailrace cancel {job_id}" in said
    assert (await tailrace("tail", job_id)).output == answer(prompt)


async def test_ctrl_c_before_the_job_is_known_prints_how_to_avoid_a_second_job() -> None:
    arguments = ("submit", "--patience", "30", "--model", "small", "Hello?")
    async with Tailrace(f"http://127.0.0.1:{reserve_port()}").running(*arguments, terminal=True) as command:
        await command.until("Trying again")
        command.press_ctrl_c()
        ended = await command.ended()

    assert ended.status == ExitStatus.INTERRUPTED
    assert "the same command with --idempotency-key " in ended.output


async def test_a_missing_prompt_at_a_terminal_is_a_usage_error(tailrace: Tailrace) -> None:
    ended = await tailrace("submit", "--model", "small", terminal=True)

    assert ended.status == ExitStatus.USAGE
    assert "The prompt is missing: give it as an argument or pipe it in." in ended.output


async def test_a_closed_pipe_ends_the_command_without_an_error_message(
    tailrace: Tailrace, system: System, model: str
) -> None:
    prompt = script(text=TEN, fault="stall", after=2, stall_s=1)
    async with tailrace.running("submit", "--stream", "--model", model, prompt) as command:
        await command.until("one ")
        command.leave()
        status = await command.status()

    assert status == (ExitStatus.BROKEN_PIPE, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
async def test_output_that_can_not_be_written_is_one_sentence(tailrace: Tailrace, system: System, model: str) -> None:
    async with tailrace.running("submit", "--model", model, "Hello?", output=FULL) as command:
        status = await command.status()

    assert status == (ExitStatus.USAGE, "tailrace: The output can't be written: No space left on device.\n")


async def test_a_submit_whose_answer_was_lost_makes_no_second_job(system: System, model: str) -> None:
    async with losing_first_answer(system.url) as url:
        ended = await Tailrace(url)("submit", "--model", model, "Hello?")

    assert (ended.status, ended.output) == (0, answer("Hello?"))
    assert len(await system.upstream.requests(model)) == 1


@asynccontextmanager
async def losing_first_answer(url: str) -> AsyncIterator[str]:
    """Provide a way to this gateway on which the first answer is lost, and the connection with it."""
    target = urlsplit(url)
    lost = False

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(64 * 1024):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        there, back = await asyncio.open_connection(target.hostname, target.port)
        forth = asyncio.create_task(carry(reader, back))
        if not lost:
            lost = True
            await there.read(1)
            writer.close()
        else:
            await carry(there, writer)
        forth.cancel()
        back.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (("submit", "--model", "m", ""), None, "The prompt is empty."),
        (("submit", "--model", "m"), b"\n \n", "The prompt is empty."),
        (("submit", "--model", "m"), b"caf\xe9", "The prompt must be UTF-8."),
        (("submit", "--model", "m", "caf\udce9"), None, "The prompt must be UTF-8."),
        (("submit", "--model", "m", "--param", "n=0", "hi"), None, "n must be a whole number from 1 to 128."),
        (("submit", "--model", "m", "--lane", "fast", "hi"), None, "lane must be one of: high, default, low."),
        (
            ("submit", "--model", "m", "--on-disconnect", "x", "hi"),
            None,
            "on_disconnect must be one of: continue, cancel",
        ),
    ],
)
async def test_a_mistake_in_the_request_is_one_sentence(
    tailrace: Tailrace, arguments: tuple[str, ...], stdin: bytes | None, sentence: str
) -> None:
    ended = await tailrace(*arguments, stdin=stdin)

    assert ended.status == ExitStatus.USAGE
    assert one_sentence(ended).startswith(sentence)


@pytest.mark.parametrize(
    ("key", "env", "sentence"),
    [
        ("sk-x", {"TAILRACE_URL": "localhost:8080"}, "TAILRACE_URL must be like http://127.0.0.1:8080."),
        (None, {"TAILRACE_URL": "http://host:port"}, "TAILRACE_URL must be like http://127.0.0.1:8080."),
        ("sk-\n", {}, "TAILRACE_API_KEY may hold only printable ASCII characters."),
        (
            None,
            {"TAILRACE_URL": "http://tailrace.example"},
            "TAILRACE_API_KEY is not set, and this gateway requires one.",
        ),
        (None, {"TAILRACE_API_KEYS": "sk-a:a"}, "TAILRACE_API_KEY is not set, and this gateway requires one."),
        (None, {}, "There is no API key: TAILRACE_API_KEY is not set, and /"),
        ("sk-x", {"TAILRACE_URL": "", "TAILRACE_PORT": "x"}, "These settings are wrong: TAILRACE_PORT: "),
    ],
)
async def test_a_mistake_in_the_settings_is_one_sentence(
    system: System, key: str | None, env: dict[str, str], sentence: str
) -> None:
    ended = await Tailrace(env.pop("TAILRACE_URL", system.url), key, **env)("jobs")

    assert ended.status == ExitStatus.USAGE
    assert one_sentence(ended).startswith(sentence)


@pytest.mark.parametrize("command", [("jobs",), ("tail", NO_SUCH_JOB), ("submit", "--model", "m", "hi")])
async def test_a_server_that_is_not_a_tailrace_gateway_is_reported(command: tuple[str, ...]) -> None:
    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\nWelcome")
        writer.close()

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ended = await Tailrace(url)(*command)

    assert ended.status == ExitStatus.UNREACHED
    assert one_sentence(ended) == f"The gateway at {url} does not answer as Tailrace does; is TAILRACE_URL right?"


async def test_the_development_key_of_this_machine_needs_no_setting(
    processes: Processes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_dir = str(tmp_path_factory.mktemp("data"))
    gateway = await processes.gateway(key_prefix=fresh_prefix(), api_keys=(), data_dir=data_dir)

    ended = await Tailrace(gateway.url, None, TAILRACE_DATA_DIR=data_dir)("jobs")

    assert ended == Ended(0, "", "")
