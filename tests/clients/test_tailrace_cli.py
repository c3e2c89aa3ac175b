"""Test `tailrace submit`, `tail`, `cancel` and `jobs` with real gateways and workers, with pipes and with a terminal.

Not here: failures and mistakes (test_tailrace_failures.py), dead letters (test_tailrace_dead_letters.py) and embeddings
(test_tailrace_embeddings.py).
"""

import asyncio
import json
from typing import Any

import pytest

from gateway.client.model.exit_status import ExitStatus
from tests.clients.commands import (
    NO_SUCH_JOB,
    Ended,
    Tailrace,
    answer,
    detached,
    one_sentence,
    script,
    submitted,
)
from tests.clients.system import ObservedUpstream, System
from tests.support.ports import reserve_port
from tests.support.processes import Processes
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_the_answer_goes_to_a_pipe_and_nothing_else_does(tailrace: Tailrace, model: str) -> None:
    prompt = script(tokens=40)

    assert await tailrace("submit", "--model", model, prompt) == Ended(0, answer(prompt), "")


@pytest.mark.parametrize("arguments", [(), ("-",)])
async def test_a_prompt_comes_from_stdin(tailrace: Tailrace, model: str, arguments: tuple[str, ...]) -> None:
    prompt = script(text="from stdin")

    ended = await tailrace("submit", "--model", model, *arguments, stdin=f"{prompt}\n".encode())

    assert ended == Ended(0, "from stdin\n", "")


async def test_a_prompt_of_several_words_needs_no_quotes(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, "Name", "three", "rivers.")

    assert ended.output == answer("Name three rivers.")


async def test_the_request_has_the_values_of_the_options(tailrace: Tailrace, system: System, model: str) -> None:
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


async def test_a_model_must_be_named_if_there_are_several(
    processes: Processes, main_prefix: str, system: System
) -> None:
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


async def test_the_command_prints_the_error_of_a_failed_job(tailrace: Tailrace, model: str) -> None:
    prompt = script(tokens=2, fault="refuse", code="content_policy_violation", message="Not that.")

    ended = await tailrace("submit", "--model", model, prompt)

    assert (ended.status, ended.output) == (ExitStatus.FAILED, "")
    assert "Not that." in one_sentence(ended)


async def test_a_job_whose_time_is_up_has_expired(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, "--timeout", "0.5", script(fault="stall"))

    assert ended.status == ExitStatus.CANCELLED
    assert "has expired" in one_sentence(ended)


async def test_tool_calls_are_printed_apart_from_the_answer(tailrace: Tailrace, model: str) -> None:
    prompt = script(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}}])

    piped, shown = await asyncio.gather(
        tailrace("submit", "--model", model, prompt), tailrace("submit", "--model", model, prompt, terminal=True)
    )

    assert (piped.status, piped.output) == (0, "")
    assert one_sentence(piped).startswith("The model calls tools (weather): tailrace tail job_")
    assert '→ weather {"city":' in shown.output


async def test_a_notice_says_that_the_answer_was_cut_off(tailrace: Tailrace, model: str) -> None:
    ended = await tailrace("submit", "--model", model, script(text="one two", finish_reason="length"))

    assert (ended.status, ended.output) == (0, "one two\n")
    assert one_sentence(ended) == "The answer was cut off: length."


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


async def test_a_cancelled_job_has_the_same_exit_status_for_each_later_reader(
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

    nowhere = Tailrace(f"http://127.0.0.1:{reserve_port()}", None, **keyless)
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


async def test_several_jobs_are_cancelled_and_each_failure_is_reported(
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


async def test_no_color_turns_off_colors(system: System, model: str) -> None:
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
