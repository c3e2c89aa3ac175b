"""Continue a response after others: its tools, the state that goes back to the upstream, and the order of its input.

The upstream's request is the job's, as the store has it. The paths through a real worker are those of tests/cases.
"""

import logging
from typing import Any

import pytest

from gateway.dialects.responses.logged_answer import LoggedAnswer
from shared.config.settings import Settings
from shared.model.bounds import REFERENCED_JOBS
from tests.support.client import Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import PROMPT, JobSide, LogWriter
from tests.support.responses_api import BACKGROUND, BOB, RESPONSES, answered, created, error_of, id_of

SIGNATURE = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
FRAGMENT = {
    "index": 0,
    "id": "call_a",
    "type": "function",
    "function": {"name": "look", "arguments": "{}"},
    "extra_content": SIGNATURE,
}
CHAT_CALL = {name: value for name, value in FRAGMENT.items() if name != "index"}
UNSIGNED = {name: value for name, value in CHAT_CALL.items() if name != "extra_content"}
OUTPUT = {"type": "function_call_output", "call_id": "call_a", "output": "42"}
RESULT = {"role": "tool", "tool_call_id": "call_a", "content": "42"}
# Case 01: Codex CLI 0.171 with its default configuration.
CODEX = [
    {"type": "function", "name": "run", "parameters": {}},
    {
        "type": "namespace",
        "name": "agents",
        "description": "Agents.",
        "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}}],
    },
    {"type": "web_search", "external_web_access": False},
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Make settings under which a record is read again after its end."""
    return settings.model_copy(update={"retention_s": 3600.0, "log_level": "debug"})


async def thinking(client: Client, writing: JobSide, **fields: Any) -> LogWriter:
    """Return a response that has thought, spoken and called a tool."""
    thought, called = {"reasoning_content": "I must look."}, {"tool_calls": [FRAGMENT]}
    return await answered(client, writing, thought, "Let me see.", called, "\n", **fields)


def asked(*call: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "Let me see.\n",
        "reasoning_content": "I must look.",
        "tool_calls": [*call],
    }


async def output_of(client: Client, writer: LogWriter) -> list[dict[str, Any]]:
    response = (await client.get(f"{RESPONSES}/{id_of(writer)}")).json()
    output: list[dict[str, Any]] = response["output"]
    return output


async def messages(writing: JobSide, writer: LogWriter) -> list[Any]:
    found: list[Any] = (await writing.store.request(writer.job_id))["messages"]
    return found


def bare(item: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an item without the fields that a client does not know, and without these."""
    return {name: value for name, value in item.items() if name not in ("extra_content", *names)}


# The request to the upstream.


async def test_the_tools_of_codex_complete_a_turn_and_are_echoed_as_they_were_asked(
    client: Client, writing: JobSide
) -> None:
    writer = await answered(client, writing, "Hello", tools=CODEX, tool_choice="auto")

    request = await writing.store.request(writer.job_id)
    assert [tool["function"]["name"] for tool in request["tools"]] == ["run", "spawn"]
    assert (await client.get(f"{RESPONSES}/{id_of(writer)}")).json()["tools"] == CODEX


async def test_unknown_fields_stay_here_and_their_names_are_logged(
    client: Client, writing: JobSide, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    writer = await created(client, writing, client_metadata={"x-codex-installation-id": "i"}, odd_field="secret")

    assert await writing.store.request(writer.job_id) == {"model": "scripted", "messages": PROMPT}
    logged = capsys.readouterr().out + caplog.text
    assert "odd_field" in logged
    assert "secret" not in logged


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"max_output_tokens": 2**70}, "max_output_tokens"),
        ({"reasoning": {"effort": []}}, "reasoning.effort"),
        ({"text": {"verbosity": 1}}, "text.verbosity"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        ({"include": ["all"]}, "include[0]"),
        ({"metadata": {f"{n}": "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
    ],
    ids=str,
)
async def test_a_bad_value_is_named_in_the_callers_dialect(client: Client, fields: dict[str, Any], param: str) -> None:
    answer = await client.post(RESPONSES, {**BACKGROUND, **fields})

    assert error_of(answer) == (400, "invalid_request", param)
    assert answer.json()["error"]["message"].startswith(param)


async def test_tools_that_an_item_has_added_are_there_in_the_next_response_too(
    client: Client, writing: JobSide
) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "patch"}]}
    first = await answered(client, writing, "Hello", input=[added, *PROMPT])

    second = await created(client, writing, previous_response_id=id_of(first))

    for writer in (first, second):
        request = await writing.store.request(writer.job_id)
        assert [tool["function"]["name"] for tool in request["tools"]] == ["patch"]
    assert "additional_tools" not in (await client.get(f"{RESPONSES}/{id_of(second)}")).json()


# The answer to the client.


async def test_state_goes_back_by_previous_response_id(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    second = await answered(client, writing, "42.", input=[OUTPUT], previous_response_id=id_of(first))
    third = await created(client, writing, input="Sure?", previous_response_id=id_of(second))

    expected = [*PROMPT, asked(CHAT_CALL), RESULT]
    assert await messages(writing, second) == expected
    assert await messages(writing, third) == [
        *expected,
        {"role": "assistant", "content": "42."},
        {"role": "user", "content": "Sure?"},
    ]


@pytest.mark.parametrize("stored", [True, False])
async def test_state_goes_back_by_whole_input_even_if_a_client_drops_unknown_fields(
    client: Client, writing: JobSide, stored: bool
) -> None:
    first = await thinking(client, writing)
    output = await output_of(client, first)
    if not stored:
        await store_no_more(writing, first)

    for items in (output, [bare(item) for item in output], [bare(item, "status") for item in output]):
        second = await created(client, writing, input=[*PROMPT, *items, OUTPUT])
        assert await messages(writing, second) == [*PROMPT, asked(CHAT_CALL), RESULT]


async def store_no_more(writing: JobSide, writer: LogWriter) -> None:
    """As if the response had been asked with `store: false`."""
    key = writing.keys.job(writer.job_id).request
    raw = await writing.client.get(key)
    await writing.client.set(key, raw.replace(b'"background":', b'"store":false,"background":'))


async def test_state_goes_back_by_references(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    references = [{"type": "item_reference", "id": item["id"]} for item in await output_of(client, first)]

    second = await created(client, writing, input=[*PROMPT, *references, OUTPUT])

    assert await messages(writing, second) == [*PROMPT, asked(CHAT_CALL), RESULT]


async def test_a_call_without_an_id_is_known_by_the_thoughts_before_it(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    output = await output_of(client, first)
    items = [bare(item, "id") if item["type"] == "function_call" else item for item in output]

    second = await created(client, writing, input=[*PROMPT, *items, OUTPUT])

    assert await messages(writing, second) == [*PROMPT, asked(CHAT_CALL), RESULT]


async def test_a_call_of_an_unknown_job_goes_back_with_the_fields_of_its_item(client: Client, writing: JobSide) -> None:
    item = {"type": "function_call", "call_id": "call_a", "name": "look", "arguments": "{}", "mine": 1}
    signed = item | {"extra_content": SIGNATURE}

    for given, expected in ((signed, CHAT_CALL), (signed | {"id": "fc_1"}, CHAT_CALL), (item, UNSIGNED)):
        writer = await created(client, writing, input=[*PROMPT, given, OUTPUT], tools=CODEX)
        assert (await messages(writing, writer))[1]["tool_calls"] == [expected]


# Clients that drop all ids and all thoughts: LlamaIndex, and `llm`.


def nameless(item: dict[str, Any]) -> dict[str, Any]:
    return bare(item, "id", "status")


async def spoken(client: Client, writing: JobSide, call_id: str, *before: Any, **fields: Any) -> LogWriter:
    """Return a response that has thought and called a tool, after these items."""
    thought, called = {"reasoning_content": f"Thought of {call_id}."}, {"tool_calls": [{**FRAGMENT, "id": call_id}]}
    return await answered(client, writing, thought, called, input=[*PROMPT, *before], tools=CODEX, **fields)


async def calls_of(client: Client, writer: LogWriter) -> list[dict[str, Any]]:
    return [nameless(item) for item in await output_of(client, writer) if item["type"] == "function_call"]


def whole(call_id: str) -> dict[str, Any]:
    """Return the message of `spoken`, complete."""
    calls = [CHAT_CALL | {"id": call_id}]
    return {"role": "assistant", "content": None, "reasoning_content": f"Thought of {call_id}.", "tool_calls": calls}


async def test_state_goes_back_without_any_id_to_the_conversation_that_it_is_from(
    client: Client, writing: JobSide
) -> None:
    first = await spoken(client, writing, "call_a", instructions="Be brief.")
    before = [*await calls_of(client, first), OUTPUT]
    second = await spoken(client, writing, "call_b", *before, instructions="Be brief.")
    before += [*await calls_of(client, second), OUTPUT | {"call_id": "call_b"}]

    third = await created(client, writing, input=[*PROMPT, *before], tools=CODEX, instructions="Be brief.")

    assert await messages(writing, third) == [
        {"role": "system", "content": "Be brief."},
        *PROMPT,
        whole("call_a"),
        RESULT,
        whole("call_b"),
        RESULT | {"tool_call_id": "call_b"},
    ]


@pytest.mark.parametrize(
    ("other", "call_id", "bob"),
    [
        ({"input": [{"role": "user", "content": "Something else?"}]}, "call_a", False),
        ({"instructions": "Be kind."}, "call_a", False),
        ({}, "call_z", False),
        ({}, "call_a", True),
    ],
    ids=["another question", "other instructions", "another call", "another tenant"],
)
async def test_state_without_any_id_is_given_to_nothing_else(
    client: Client, writing: JobSide, other: dict[str, Any], call_id: str, bob: bool
) -> None:
    first = await spoken(client, writing, "call_a")
    calls = [item | {"call_id": call_id} for item in await calls_of(client, first)]
    fields = {"tools": CODEX, **other, "input": [*other.get("input", PROMPT), *calls, OUTPUT | {"call_id": call_id}]}

    second = await created(client.as_(BOB) if bob else client, writing, **fields)

    (message,) = (each for each in await messages(writing, second) if each["role"] == "assistant")
    assert message == {"role": "assistant", "content": None, "tool_calls": [UNSIGNED | {"id": call_id}]}


async def test_two_answers_to_one_prompt_are_distinguished_by_their_calls(client: Client, writing: JobSide) -> None:
    for call_id in ("call_a", "call_b"):
        writer = await spoken(client, writing, call_id)
        output = OUTPUT | {"call_id": call_id}
        second = await created(client, writing, input=[*PROMPT, *await calls_of(client, writer), output], tools=CODEX)
        assert (await messages(writing, second))[1] == whole(call_id)


async def test_a_prompt_without_tools_is_not_recorded(client: Client, writing: JobSide) -> None:
    await created(client, writing)

    assert await writing.client.keys(f"{writing.keys.prefix}:*prompt*") == []


async def test_the_state_of_another_tenants_job_never_returns(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    items = [bare(item) for item in await output_of(client, first)]

    second = await created(client.as_(BOB), writing, input=[*PROMPT, *items, OUTPUT])

    assert (await messages(writing, second))[1]["tool_calls"] == [UNSIGNED]


@pytest.mark.parametrize("read_before", [False, True])
async def test_the_state_of_a_deleted_job_is_not_used(client: Client, writing: JobSide, read_before: bool) -> None:
    first = await thinking(client, writing)
    items = [bare(item) for item in await output_of(client, first)]
    if read_before:
        before = await created(client, writing, input=[*PROMPT, *items, OUTPUT])
        assert (await messages(writing, before))[1]["tool_calls"] == [CHAT_CALL]
    await client.request("DELETE", f"{RESPONSES}/{id_of(first)}")

    deleted = await created(client, writing, input=[*PROMPT, *items, OUTPUT])

    assert (await messages(writing, deleted))[1]["tool_calls"] == [UNSIGNED]


async def test_a_log_is_read_once_and_again_while_its_job_runs(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    running = await created(client, writing)
    await running.say({"tool_calls": [FRAGMENT]})
    item_id = f"fc_{running.job_id.removeprefix('job_')}_0"
    item = {"type": "function_call", "call_id": "call_a", "name": "look", "arguments": "{}", "id": item_id}
    await created(client, writing, input=[*PROMPT, item, OUTPUT])
    assert gateway.services.answers.get(running.job_id) is None
    await running.complete()

    second = await created(client, writing, input=[*PROMPT, item, OUTPUT])
    assert gateway.services.answers.get(running.job_id) == LoggedAnswer("", {"call_a": {"extra_content": SIGNATURE}})
    await writing.client.delete(writing.keys.job(running.job_id).log)
    third = await created(client, writing, input=[*PROMPT, item, OUTPUT])

    for writer in (second, third):
        assert (await messages(writing, writer))[1]["tool_calls"] == [CHAT_CALL]


async def test_the_latest_answers_are_looked_up_and_others_do_no_harm(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    (call,) = (bare(item) for item in await output_of(client, first) if item["type"] == "function_call")
    step, other = [call, OUTPUT], OUTPUT | {"call_id": "call_x"}
    others: list[Any] = []
    for number in range(REFERENCED_JOBS):
        others += [call | {"id": f"fc_{number:026}_0", "call_id": "call_x"}, other]

    late = await created(client, writing, input=[*PROMPT, *others, *step])
    early = await created(client, writing, input=[*PROMPT, *step, *others])

    assert (await messages(writing, late))[-2]["tool_calls"] == [CHAT_CALL]
    assert (await messages(writing, early))[1]["tool_calls"] == [UNSIGNED]


async def test_the_returned_state_is_at_most_as_large_as_a_body(settings: Settings, writing: JobSide) -> None:
    large = {**FRAGMENT, "extra_content": "x" * 900}
    async with running_gateway(settings.model_copy(update={"max_body_bytes": 1500})) as gateway:
        items: list[Any] = []
        for number in range(3):
            called = {"tool_calls": [{**large, "id": f"call_{number}"}]}
            writer = await answered(gateway.client, writing, called)
            items += [bare(item) for item in await output_of(gateway.client, writer)]
            items.append(OUTPUT | {"call_id": f"call_{number}"})
        second = await created(gateway.client, writing, input=[*PROMPT, *items])

    sent = [call for message in await messages(writing, second) for call in message.get("tool_calls", ())]
    assert ["extra_content" in call for call in sent] == [False, False, True]


# In which order.


async def test_results_stand_behind_their_calls_whatever_came_between(client: Client, writing: JobSide) -> None:
    first = await thinking(client, writing)
    note = {"role": "user", "content": "Be quick."}

    by_id = await created(client, writing, input=[note, OUTPUT], previous_response_id=id_of(first))
    by_input = await created(client, writing, input=[*PROMPT, *await output_of(client, first), note, OUTPUT])

    for writer in (by_id, by_input):
        assert await messages(writing, writer) == [*PROMPT, asked(CHAT_CALL), RESULT, note]


async def test_input_items_are_shown_as_they_were_declared(client: Client, writing: JobSide) -> None:
    items = [
        *PROMPT,
        {"type": "function_call", "call_id": "a", "name": "spawn", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "42"},
    ]
    writer = await created(client, writing, input=items, tools=CODEX)

    shown = (await client.get(f"{RESPONSES}/{id_of(writer)}/input_items?order=asc")).json()["data"]

    assert [(item["type"], item.get("name"), item.get("namespace")) for item in shown] == [
        ("message", None, None),
        ("function_call", "spawn", "agents"),
        ("function_call_output", None, None),
    ]


async def test_five_thousand_calls_are_taken(client: Client, gateway: Gateway, writing: JobSide) -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    calls = [call | {"call_id": f"{n}", "id": f"fc_{n:026}_0"} for n in range(5_000)]
    outputs = [{"type": "function_call_output", "call_id": f"{n}", "output": ""} for n in range(5_000)]

    writer = await created(client, writing, input=[*PROMPT, *calls, *outputs])

    assert len(await messages(writing, writer)) == 5_002
