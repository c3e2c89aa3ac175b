"""`tailrace submit`, `tail`, `cancel`, `jobs` and `dead-letters` against real gateways and workers.

With pipes and with a terminal.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.client.model.exit_status import ExitStatus
from shared.process.ports import free_port
from tests.clients.commands import Ended, Tailrace, screen
from tests.clients.system import ObservedUpstream, System
from tests.support.client import Client
from tests.support.core import TIMEOUT_S, open_core
from tests.support.processes import Processes
from tests.support.upstream import expected_text
from tests.support.valkey import fresh_prefix
from worker.upstream.providers.scripted import embed
from worker.upstream.wire.vectors import read_vectors

pytestmark = pytest.mark.asyncio(loop_scope="package")

FULL = Path("/dev/full")
NO_SUCH_JOB = "job_00000000000000000000000000"
TEN = "one two three four five six seven eight nine ten"


@pytest.fixture
def tailrace(system: System) -> Tailrace:
    """Alice's command line."""
    return Tailrace(system.url)


@pytest.fixture
def root(system: System) -> Tailrace:
    """Return an admin's command line."""
    return Tailrace(system.url, "sk-root")


def script(**fields: Any) -> str:
    """Return a prompt that scripts the upstream."""
    return json.dumps({"script": fields})


def answer(prompt: str) -> str:
    """Return the upstream's answer to a prompt, as a line."""
    return expected_text({"messages": [{"role": "user", "content": prompt}]}) + "\n"


async def detached(tailrace: Tailrace, *arguments: str) -> str:
    """Submit, and don't wait; the job's id."""
    ended = await tailrace("submit", "--detach", *arguments)
    assert ended.status == ExitStatus.COMPLETE, ended
    return ended.output.strip()


async def submitted(client: Client, model: str, prompt: str) -> str:
    """Submit a job without a command, which would take its time; return its id."""
    answer = await client.post("/v1/jobs", {"model": model, "messages": [{"role": "user", "content": prompt}]})
    assert answer.status == 202
    return str(answer.json()["id"])


def one_sentence(ended: Ended) -> str:
    """Return its message on stderr: one line, and no traceback."""
    assert ended.errors.startswith("tailrace: ")
    assert ended.errors.count("\n") == 1
    return ended.errors.removeprefix("tailrace: ").rstrip()


# --- Prompts and answers


async def test_the_answer_goes_to_a_pipe_and_nothing_else_does(tailrace: Tailrace, model: str) -> None:
    prompt = script(tokens=40)

    assert await tailrace("submit", "--model", model, prompt) == Ended(0, answer(prompt), "")


@pytest.mark.parametrize("arguments", [(), ("-",)])
async def test_a_prompt_comes_from_stdin(tailrace: Tailrace, model: str, arguments: tuple[str, ...]) -> None:
    prompt = script(text="from stdin")

    ended = await tailrace("submit", "--model", model, *arguments, stdin=f"{prompt}\n".encode())

    assert ended == Ended(0, "from stdin\n", "")


async def test_the_words_of_a_prompt_need_no_quotes(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, "Name", "three", "rivers.")

    assert ended.output == answer("Name three rivers.")


async def test_the_request_has_what_the_options_say(tailrace: Tailrace, system: System, model: str) -> None:
    options = ("--system", "Be brief.", "--param", "temperature=0.5", "--param", 'stop=["END"]', "--timeout", "20")
    job_id = await detached(tailrace, "--model", model, *options, script(tokens=2))

    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    assert (await tailrace("tail", job_id)).status == ExitStatus.COMPLETE
    assert job["model"] == model
    assert job["deadline_at"] > job["created_at"]


async def test_the_only_model_needs_no_name(processes: Processes, main_prefix: str, system: System, model: str) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix, models=(model,))

    ended = await Tailrace(gateway.url)("submit", "Hello?")

    assert (ended.status, ended.output) == (0, answer("Hello?"))
    assert len(await system.upstream.requests(model)) == 1


async def test_of_several_models_one_must_be_named(processes: Processes, main_prefix: str, system: System) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix, models=("small", "large"))

    ended = await Tailrace(gateway.url)("submit", "Hello?")

    assert ended.status == ExitStatus.USAGE
    assert one_sentence(ended) == "Name a model with --model; the gateway serves: large, small."


async def test_a_pipe_gets_nothing_of_an_answer_that_does_not_end_well(
    tailrace: Tailrace, system: System, model: str
) -> None:
    async with tailrace.running("submit", "--model", model, script(text="one two", fault="stall", after=1)) as command:
        await system.upstream.until_asked(model)
        (job,) = [json.loads(line) for line in (await tailrace("jobs", "--json")).output.splitlines() if model in line]
        cancelled = await tailrace("cancel", job["id"])
        ended = await command.ended()

    assert cancelled == Ended(0, f"{job['id']} cancelled\n", "")
    assert (ended.status, ended.output) == (ExitStatus.CANCELLED, "")
    assert one_sentence(ended) == f"The job {job['id']} was cancelled: The job was cancelled on request."


async def test_with_stream_a_pipe_gets_the_answer_as_it_comes(tailrace: Tailrace, system: System, model: str) -> None:
    prompt = script(text="one two three", fault="stall", after=2)
    async with tailrace.running("submit", "--stream", "--model", model, prompt) as command:
        await command.until("one two ")
        (seen,) = await system.upstream.requests(model)
        assert seen["ended"] is None
        command.press_ctrl_c()
        ended = await command.ended()

    assert ended.output == "one two "


async def test_a_job_that_fails_is_told_in_its_own_words(tailrace: Tailrace, model: str) -> None:
    prompt = script(tokens=2, fault="refuse", code="content_policy_violation", message="Not that.")

    ended = await tailrace("submit", "--model", model, prompt)

    assert (ended.status, ended.output) == (ExitStatus.FAILED, "")
    assert "Not that." in one_sentence(ended)


async def test_a_job_whose_time_is_up_has_expired(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, "--timeout", "0.5", script(fault="stall"))

    assert ended.status == ExitStatus.CANCELLED
    assert "has expired" in one_sentence(ended)


async def test_tools_are_told_apart_from_the_answer(tailrace: Tailrace, model: str) -> None:
    prompt = script(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}}])

    piped, shown = await asyncio.gather(
        tailrace("submit", "--model", model, prompt), tailrace("submit", "--model", model, prompt, terminal=True)
    )

    assert (piped.status, piped.output) == (0, "")
    assert one_sentence(piped).startswith("The model calls tools (weather): tailrace tail job_")
    assert '→ weather {"city":' in shown.output


async def test_an_answer_that_was_cut_off_says_so(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, script(text="one two", finish_reason="length"))

    assert (ended.status, ended.output) == (0, "one two\n")
    assert one_sentence(ended) == "The answer was cut off: length."


# --- Dead letters


async def refused(tailrace: Tailrace, model: str) -> str:
    """Make a job that has failed for good; return its id."""
    prompt = script(tokens=2, fault="refuse", code="insufficient_quota", message="Not that.")
    job_id = await detached(tailrace, "--model", model, prompt)
    assert (await tailrace("tail", job_id)).status == ExitStatus.FAILED
    return job_id


async def listed(root: Tailrace, model: str, *options: str, count: int) -> list[dict[str, Any]]:
    """Return the dead letters that asked for a model, once there are so many: they follow the end of their jobs."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            ended = await root("dead-letters", "--json", "--model", model, *options)
            assert ended.status == ExitStatus.COMPLETE, ended
            if len(found := [json.loads(line) for line in ended.output.splitlines()]) == count:
                return found


async def test_dead_letters_are_listed_and_looked_at(tailrace: Tailrace, root: Tailrace, model: str) -> None:
    first, second = await refused(tailrace, model), await refused(tailrace, model)

    letters = await listed(root, model, count=2)
    as_table = await root("dead-letters", "list", "--model", model, "--limit", "1")
    shown = await root("dead-letters", "show", first)

    assert {each["id"] for each in letters} == {first, second}
    assert as_table.output.splitlines()[1].split()[1:4] == ["insufficient_quota", "alice", model]
    assert len(as_table.output.splitlines()) == 2
    assert "Not that." in json.loads(shown.output)["request"]["messages"][0]["content"]
    assert (await root("dead-letters", "--tenant", "nobody")).output == ""


async def test_dead_letters_are_requeued_by_name_and_again_as_the_same(
    tailrace: Tailrace, root: Tailrace, model: str
) -> None:
    job_id = await refused(tailrace, model)
    await listed(root, model, count=1)

    first, second = [await root("dead-letters", "requeue", job_id) for _ in range(2)]
    (as_json,) = (await root("dead-letters", "requeue", "--json", job_id)).output.splitlines()
    (requeued,) = await listed(root, model, "--requeued", "true", count=1)

    assert first == second == Ended(0, f"{job_id} {requeued['requeued_as']}\n", "")
    assert json.loads(as_json)["requeued_from"] == job_id
    assert (await tailrace("tail", requeued["requeued_as"])).status == ExitStatus.FAILED


async def test_dead_letters_are_requeued_and_deleted_by_what_they_are(
    tailrace: Tailrace, root: Tailrace, model: str
) -> None:
    jobs = {await refused(tailrace, model) for _ in range(2)}
    await listed(root, model, count=2)

    requeued = await root("dead-letters", "requeue", "--all", "--model", model)
    new = {line.split()[0]: line.split()[1] for line in requeued.output.splitlines()}
    assert (requeued.status, set(new)) == (0, jobs)
    again = {each["id"] for each in await listed(root, model, count=2)}
    assert again == set(new.values())

    one, *rest = sorted(again)
    assert await root("dead-letters", "delete", one) == Ended(0, f"{one} deleted\n", "")
    deleted = await root("dead-letters", "delete", "--model", model)
    assert deleted == Ended(0, "".join(f"{each} deleted\n" for each in rest), "")
    assert await listed(root, model, count=0) == []


async def test_dead_letters_are_for_admins(tailrace: Tailrace, root: Tailrace) -> None:
    forbidden = await tailrace("dead-letters")
    unknown = await root("dead-letters", "show", NO_SUCH_JOB)
    one_of_two = await root("dead-letters", "delete", NO_SUCH_JOB)

    assert [each.status for each in (forbidden, unknown, one_of_two)] == [ExitStatus.REFUSED] * 3
    assert "admin key" in one_sentence(forbidden)
    assert one_sentence(unknown) == one_sentence(one_of_two) == f"There is no dead letter {NO_SUCH_JOB}."


# --- Reading again


async def test_a_detached_job_is_read_later_whole_or_from_a_cursor(tailrace: Tailrace, model: str) -> None:
    job_id = await detached(tailrace, "--model", model, script(text="one two three"))

    whole = await tailrace("tail", job_id)
    again, rest = await asyncio.gather(tailrace("tail", job_id, "--stream"), tailrace("tail", job_id, "--from", "1-3"))

    assert whole == again == Ended(0, "one two three\n", "")
    assert whole.output.endswith(rest.output)
    assert 0 < len(rest.output) < len(whole.output)


async def test_events_are_json_lines(tailrace: Tailrace, system: System, model: str) -> None:
    job_id = await submitted(system.client, model, script(text="one two", reasoning=1))

    ended = await tailrace("tail", job_id, "--events")
    events = [json.loads(line) for line in ended.output.splitlines()]
    last = events[-1]["id"]
    nothing = await tailrace("tail", job_id, "--events", "--from", last)

    assert [event["id"] for event in events[:2]] == ["0-1", "1-1"]
    assert "".join(event["data"].get("content", "") for event in events if event["event"] == "delta") == "one two"
    assert (ended.status, events[-1]["event"], ended.errors) == (0, "completed", "")
    assert nothing == Ended(0, "", "")


async def test_a_job_that_was_cancelled_has_the_same_status_for_whoever_comes_later(
    tailrace: Tailrace, system: System, model: str
) -> None:
    job_id = await submitted(system.client, model, script(fault="stall"))
    await tailrace("cancel", job_id)
    end = await system.end_of(job_id)

    later, nothing_new = await asyncio.gather(tailrace("tail", job_id), tailrace("tail", job_id, "--from", str(end.id)))

    assert later.status == nothing_new.status == ExitStatus.CANCELLED
    assert one_sentence(later) == one_sentence(nothing_new)


async def test_a_job_has_a_name_in_each_dialect_and_addresses(tailrace: Tailrace, system: System, model: str) -> None:
    job_id = await submitted(system.client, model, script(text="one two"))
    names = [
        *(job_id.replace("job_", prefix) for prefix in ("job_", "resp_", "chatcmpl-")),
        f"{system.url}/v1/jobs/{job_id}",
        f"{system.url}/v1/responses/{job_id.replace('job_', 'resp_')}?stream=true",
    ]

    read = await asyncio.gather(*(tailrace("tail", name) for name in names))
    cancelled = await tailrace("cancel", *names)

    assert read == [Ended(0, "one two\n", "")] * len(names)
    assert cancelled == Ended(0, f"{job_id} completed\n" * len(names), "")


async def test_a_jobs_link_is_read_without_a_key(tailrace: Tailrace, system: System, model: str) -> None:
    job_id = await submitted(system.client, model, script(text="one two"))
    end = await system.end_of(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    path, _, token = job["links"]["events"].partition("?")
    keyless = {"TAILRACE_API_KEYS": "sk-a:a"}  # so that no development key is looked for

    nowhere = Tailrace(f"http://127.0.0.1:{free_port()}", None, **keyless)
    whole, nothing_new, from_here, tampered = await asyncio.gather(
        nowhere("tail", f"{system.url}{path}?{token}"),
        nowhere("tail", f"{system.url}{path}?{token}", "--from", str(end.id)),
        Tailrace(system.url, None, **keyless)("tail", f"{path}?{token}"),
        nowhere("tail", f"{system.url}{path}?{token}x"),
    )

    assert whole == from_here == Ended(0, "one two\n", "")
    assert nothing_new == Ended(0, "", "")
    assert (tampered.status, one_sentence(tampered)) == (
        ExitStatus.REFUSED,
        "token is not valid for this job's events; request the job's links again.",
    )


async def test_a_chat_names_the_answer_that_is_being_given_or_else_the_last_one(
    tailrace: Tailrace, system: System, model: str
) -> None:
    chat = f"chat/{model}"

    async def say(**fields: Any) -> None:
        message = {"id": model, "role": "user", "parts": [{"type": "text", "text": script(**fields)}]}
        async with system.client.calling("/api/chat", {"id": chat, "model": model, "messages": [message]}) as page:
            await page.read_head()  # and the page is closed

    none = await tailrace("tail", "--chat", chat)
    await say(text="one two three", fault="stall", after=2)
    async with tailrace.running("tail", "--stream", "--chat", chat) as command:
        await command.until("one two ")
        cancelled = await tailrace("cancel", "--chat", chat, "--chat", "no-such-chat")
        ended = await command.ended()
    await say(text="four")
    last, again = await asyncio.gather(
        tailrace("tail", "--chat", chat),
        tailrace("tail", f"{system.url}/api/chat/{chat.replace('/', '%2F')}/stream"),
    )

    assert (none.status, one_sentence(none)) == (ExitStatus.REFUSED, f"There is no answer in the chat {chat}.")
    assert cancelled.status == ExitStatus.REFUSED
    assert cancelled.output.endswith(" cancelled\n")
    assert one_sentence(cancelled) == "There is no answer in the chat no-such-chat."
    assert ended.status == ExitStatus.CANCELLED
    assert last == again == Ended(0, "four\n", "")


async def test_the_same_idempotency_key_is_the_same_job(tailrace: Tailrace, model: str) -> None:
    arguments = ("--model", model, "--idempotency-key", model)

    assert await detached(tailrace, *arguments, "Hello?") == await detached(tailrace, *arguments, "Hello?")
    other = await tailrace("submit", *arguments, "Goodbye?")
    assert other.status == ExitStatus.USAGE
    assert "Idempotency-Key" in one_sentence(other)


async def test_several_jobs_are_cancelled_and_each_failure_is_told(
    tailrace: Tailrace, system: System, model: str
) -> None:
    jobs = [await submitted(system.client, model, script(fault="stall")) for _ in range(2)]

    ended = await tailrace("cancel", jobs[0], NO_SUCH_JOB, jobs[1])

    assert ended.output == "".join(f"{job} cancelled\n" for job in jobs)
    assert ended.status == ExitStatus.REFUSED
    assert one_sentence(ended) == f"There is no job {NO_SUCH_JOB}."


async def test_jobs_are_a_table_for_people_and_json_lines_for_scripts(
    processes: Processes, upstream: ObservedUpstream
) -> None:
    gateway = await processes.gateway(key_prefix=fresh_prefix())  # without a worker
    tailrace = Tailrace(gateway.url)
    none = await tailrace("jobs")
    client = System(gateway.url, upstream).client
    ids = [await submitted(client, "small", "Hello?") for _ in range(3)]
    await client.post(f"/v1/jobs/{ids[0]}/cancel")

    table, lines, cancelled = await asyncio.gather(
        tailrace("jobs", "--limit", "2"),
        tailrace("jobs", "--json"),
        tailrace("jobs", "--json", "--status", "cancelled"),
    )

    assert none == Ended(0, "", "")
    head, *rows = table.output.splitlines()
    assert head.split() == ["JOB", "STATUS", "MODEL", "AGE", "TOOK", "TOKENS"]
    assert [row.split()[:3] for row in rows] == [[job, "queued", "small"] for job in reversed(ids[1:])]
    assert [json.loads(line)["id"] for line in lines.output.splitlines()] == ids[::-1]
    assert [json.loads(line)["id"] for line in cancelled.output.splitlines()] == ids[:1]


# --- On a terminal


async def test_a_terminal_shows_the_answer_as_it_comes_reasoning_dimmed(
    tailrace: Tailrace, system: System, model: str
) -> None:
    prompt = script(text="one two three", reasoning=2, fault="stall", after=4, stall_s=2)
    async with tailrace.running("submit", "--model", model, prompt, terminal=True) as command:
        await command.until("one two ")
        (seen,) = await system.upstream.requests(model)
        assert seen["ended"] is None
        ended = await command.ended()

    assert ended.status == 0
    assert ended.output.startswith("\x1b[2m")
    assert "\n\none two three\n" in ended.output
    assert ended.output.splitlines()[-2].startswith("\x1b[2mtailrace: job_")


async def test_with_no_color_there_is_none(system: System, model: str) -> None:
    plain = Tailrace(system.url, NO_COLOR="1")

    ended, failed = await asyncio.gather(
        plain("submit", "--model", model, script(text="one two", reasoning=1), terminal=True),
        plain("tail", NO_SUCH_JOB, terminal=True),
    )

    assert "one two" in ended.output
    assert "\x1b" not in ended.output + failed.output
    assert failed.status == ExitStatus.REFUSED


async def test_a_failure_is_red_on_a_terminal(tailrace: Tailrace) -> None:
    ended = await tailrace("tail", NO_SUCH_JOB, terminal=True)

    assert ended.output == f"\x1b[31mtailrace: There is no job {NO_SUCH_JOB}.\n\x1b[0m"


@pytest.mark.parametrize("terminal", [True, False])
async def test_no_control_character_of_a_model_reaches_a_terminal_and_a_pipe_gets_them_all(
    tailrace: Tailrace, model: str, terminal: bool
) -> None:
    text = "a\x1b[2J\x1b]0;title\x07\x9b31m\tb"

    ended = await tailrace("submit", "--model", model, script(text=text), terminal=terminal)

    assert ended.status == 0
    assert ("␛[2J␛]0;title␇\ufffd31m" in ended.output) is terminal
    assert (text in ended.output) is not terminal


# --- When things fail


async def test_a_gateway_that_is_killed_in_mid_answer_is_waited_for(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    port = free_port()
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


async def test_a_gateway_that_stays_away_is_given_up_and_the_sentence_says_so(
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
    port = free_port()

    ended = await Tailrace(f"http://127.0.0.1:{port}")("submit", "--model", "small", "Hello?")

    assert ended.status == ExitStatus.UNREACHED
    assert one_sentence(ended) == f"The gateway at http://127.0.0.1:{port} can't be reached: Connection refused."


async def test_with_a_retry_window_a_gateway_may_start_later(
    processes: Processes, main_prefix: str, system: System, model: str
) -> None:
    port = free_port()
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
        whole, void, erased, told = [await reader.ended() for reader in (piped, streamed, large, small)]

    why = "The attempt was lost (worker_lost)."
    assert whole == Ended(0, answer(prompt), "")
    assert void.status == ExitStatus.FAILED
    assert one_sentence(void) == f"{why} Discard what was written. To read it: tailrace tail {job_id}"
    assert screen(erased.output).startswith(f"[{why} The answer starts anew.]\n{answer(prompt)}tailrace: {job_id}, ")
    kept, _, anew = screen(told.output).partition(f"\n[{why} What stands above is void.]\n")
    assert kept.startswith("one\ntwo\nthree\nfour\n")
    assert anew.startswith(answer(prompt))
    assert (erased.status, told.status) == (0, 0)


async def test_a_job_that_a_killed_redis_forgot_is_submitted_again(
    processes: Processes, upstream: ObservedUpstream, redis_url: str, model: str
) -> None:
    prefix, port = fresh_prefix(), free_port()
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
async def test_what_a_key_does_not_open_is_refused(tailrace: Tailrace, system: System, model: str, key: str) -> None:
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
async def test_ctrl_c_leaves_and_says_how_to_go_on_and_the_job_does(
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


async def test_ctrl_c_before_the_job_is_known_says_how_to_make_no_second_one() -> None:
    arguments = ("submit", "--patience", "30", "--model", "small", "Hello?")
    async with Tailrace(f"http://127.0.0.1:{free_port()}").running(*arguments, terminal=True) as command:
        await command.until("Trying again")
        command.press_ctrl_c()
        ended = await command.ended()

    assert ended.status == ExitStatus.INTERRUPTED
    assert "the same command with --idempotency-key " in ended.output


async def test_without_a_prompt_nobody_waits_at_a_terminal(tailrace: Tailrace) -> None:
    ended = await tailrace("submit", "--model", "small", terminal=True)

    assert ended.status == ExitStatus.USAGE
    assert "The prompt is missing: give it as an argument or pipe it in." in ended.output


async def test_whoever_leaves_a_pipe_breaks_it_quietly(tailrace: Tailrace, system: System, model: str) -> None:
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


# --- Mistakes


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
async def test_what_is_no_gateway_of_tailrace_is_told(command: tuple[str, ...]) -> None:
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


# --- Embeddings


def vectors_of(inputs: list[str]) -> list[list[float]]:
    """Return the upstream's vectors of these inputs."""
    read = read_vectors(embed({"input": inputs}), len(inputs))
    return [list(vector) for vector in struct.iter_unpack(f"<{read.dimensions}f", read.data)]


async def test_lines_are_embedded_and_a_pipe_gets_a_vector_a_line(tailrace: Tailrace, model: str) -> None:
    lines = [f"line {n}" for n in range(101)]

    ended = await tailrace("submit", "--model", model, "--embed", "-", stdin="\n".join(lines).encode())

    assert (ended.status, ended.errors) == (ExitStatus.COMPLETE, "")
    assert [json.loads(line) for line in ended.output.splitlines()] == vectors_of(lines)


async def test_a_person_sees_how_far_a_job_is_and_is_told_where_its_vectors_are(tailrace: Tailrace, model: str) -> None:
    job_id = await detached(tailrace, "--model", model, "--embed", "\n".join(["a"] * 101))
    events = await tailrace("tail", job_id, "--events")
    vectors = await tailrace("tail", job_id)

    assert [json.loads(line)["event"] for line in events.output.splitlines()] == [
        "queued",
        "started",
        "progress",
        "progress",
        "completed",
    ]
    assert vectors.output.count("\n") == 101
    shown = screen((await tailrace("tail", job_id, terminal=True)).output)
    assert "101 of 101 inputs" in shown and "100 of 101 inputs" not in shown
    assert f"101 vectors. To have them: tailrace tail {job_id} > FILE" in "".join(shown.splitlines())


async def test_an_upstream_that_refuses_an_input_is_quoted(tailrace: Tailrace, model: str) -> None:
    refused = script(fault="refuse", code="content_policy_violation", message="Too rude.")
    ended = await tailrace("submit", "--model", model, "--embed", refused)

    assert ended.status == ExitStatus.FAILED
    assert (ended.output, "Too rude." in one_sentence(ended)) == ("", True)
