"""A tool that can't be run here refuses no turn: agents such as Codex CLI declare more than they call."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cases.dialects import Dialect, respond
from tests.cases.everywhere import in_responses
from tests.cases.stage import Stage
from tests.support.folded import Answer, Call, fold_response
from tests.support.raw_upstream import Raw, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUN = {"type": "function", "name": "run", "parameters": {}}
SPAWN = {"type": "function", "name": "spawn_agent", "description": "Start an agent.", "parameters": {"type": "object"}}
AGENTS = {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [SPAWN]}
SEARCH = {"type": "web_search", "external_web_access": False}
CODEX = [RUN, AGENTS, SEARCH]
HOSTED: list[dict[str, Any]] = [
    SEARCH,
    {"type": "web_search_preview"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example/sse"},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "tool_search"},
]
HELLO = said({"content": "Hello"})


def called(name: str, arguments: str) -> Raw:
    """Return an upstream's call of a function."""
    function = {"name": name, "arguments": arguments}
    return said(
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}, finish="tool_calls"
    )


def offered(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools that an upstream was offered."""
    return [tool[tool["type"]]["name"] for tool in body.get("tools") or ()]


@in_responses
async def test_codex_clis_default_tools_complete_a_turn(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, HELLO)

    got = await dialect.ask(stage, model, tools=CODEX, tool_choice="auto", parallel_tool_calls=False)

    dialect.check(got, Answer("Hello"))
    (body,) = stage.upstream.asked(model)
    assert offered(body) == ["run", "spawn_agent"]
    assert {tool["type"] for tool in body["tools"]} == {"function"}
    assert got.raw["tools"] == CODEX


@in_responses
async def test_a_call_of_a_namespaces_function_returns_with_its_namespace(
    stage: Stage, dialect: Dialect, model: str
) -> None:
    stage.upstream.play(model, called("spawn_agent", '{"task":"look"}'))

    got = await dialect.ask(stage, model, tools=CODEX)

    assert [(call.name, call.arguments) for call in got.calls] == [("spawn_agent", '{"task":"look"}')]
    assert [item.get("namespace") for item in got.raw["output"]] == ["agents"]


async def test_functions_of_one_name_in_two_namespaces_get_different_names(stage: Stage, model: str) -> None:
    spaces = [{**AGENTS, "name": name} for name in ("agents", "robots")]
    stage.upstream.play(model, HELLO)
    assert (await respond(stage, model, tools=spaces)).status == 200
    first, second = offered(stage.upstream.asked(model)[0])
    assert first != second

    stage.upstream.play(model, called(second, "{}"))
    reply = await respond(stage, model, tools=spaces)

    assert reply.status == 200, reply.body
    got = fold_response(reply.json())
    assert [(item["name"], item["namespace"]) for item in got.raw["output"]] == [("spawn_agent", "robots")]


@pytest.mark.parametrize("tool", HOSTED, ids=lambda tool: tool["type"])
@in_responses
async def test_a_hosted_tool_is_left_out(stage: Stage, dialect: Dialect, model: str, tool: dict[str, Any]) -> None:
    stage.upstream.play(model, HELLO)

    got = await dialect.ask(stage, model, tools=[tool, RUN])

    dialect.check(got, Answer("Hello"))
    assert offered(stage.upstream.asked(model)[0]) == ["run"]


@pytest.mark.parametrize("choice", [None, "auto", "none"])
async def test_a_request_with_only_a_hosted_tool_is_sent_without_tools(
    stage: Stage, model: str, choice: str | None
) -> None:
    stage.upstream.play(model, HELLO)

    reply = await respond(stage, model, tools=[SEARCH], tool_choice=choice)

    assert reply.status == 200, reply.body
    (body,) = stage.upstream.asked(model)
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([RUN, SEARCH], {"type": "web_search"}),
        ([RUN, SEARCH], {"type": "web_search_preview"}),
        ([RUN, HOSTED[5]], {"type": "mcp", "server_label": "docs"}),
        ([SEARCH], "required"),
        ([RUN, SEARCH], {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}),
    ],
)
async def test_a_hosted_tool_that_is_demanded_is_refused(stage: Stage, model: str, tools: Any, choice: Any) -> None:
    stage.upstream.play(model, HELLO)

    reply = await respond(stage, model, tools=tools, tool_choice=choice)

    assert reply.status == 400
    assert reply.json()["error"]["param"].startswith("tool_choice")
    assert stage.upstream.asked(model) == []


@in_responses
async def test_allowed_tools_are_translated(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, HELLO)
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "run"}]}

    got = await dialect.ask(stage, model, tools=[RUN, SPAWN], tool_choice=allowed)

    dialect.check(got, Answer("Hello"))
    (body,) = stage.upstream.asked(model)
    if body["tool_choice"] == "auto":  # no other tool is offered: each upstream understands that
        assert offered(body) == ["run"]
    else:
        tools = [{"type": "function", "function": {"name": "run"}}]
        assert body["tool_choice"] == {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}


PATCH = '*** Begin Patch\n+"quoted" \\ naïve\n*** End Patch'


def patched(body: Mapping[str, Any]) -> Raw:
    """Return a call of the tool `patch`, in the form in which it was offered, in pieces."""
    (tool,) = (tool for tool in body["tools"] if tool[tool["type"]]["name"] == "patch")
    if tool["type"] == "custom":
        first: dict[str, Any] = {"type": "custom", "custom": {"name": "patch", "input": ""}}
        rest = [{"custom": {"input": piece}} for piece in (PATCH[:9], PATCH[9:])]
    else:
        assert tool["function"]["parameters"]["required"] == list(tool["function"]["parameters"]["properties"])
        (name,) = tool["function"]["parameters"]["required"]
        arguments = f'{{"{name}":' + r'"*** Begin Patch\n+\"quoted\" \\ na\u00efve\n*** End Patch"}'
        pieces = [arguments[at : at + 5] for at in range(0, len(arguments), 5)]
        first = {"type": "function", "function": {"name": "patch", "arguments": ""}}
        rest = [{"function": {"arguments": piece}} for piece in pieces]
    fragments = [{"id": "c1", **first}, *rest]
    return said(*({"tool_calls": [{"index": 0, **each}]} for each in fragments), finish="tool_calls")


@in_responses
async def test_a_custom_tool_is_called_with_its_text(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, patched)

    got = await dialect.ask(stage, model, tools=[RUN, {"type": "custom", "name": "patch", "description": "Patch."}])

    dialect.check(got, Answer(calls=(Call("c1", "patch", PATCH),), finish="tool_calls"))
    assert [item["type"] for item in got.raw["output"]] == ["custom_tool_call"]


async def test_a_custom_tools_call_and_result_go_back(stage: Stage, model: str) -> None:
    tools = [{"type": "custom", "name": "patch"}]
    stage.upstream.play(model, patched, HELLO)
    first = (await respond(stage, model, tools=tools)).json()
    output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    whole = [{"role": "user", "content": "Hello?"}, *first["output"], output]

    by_id = await respond(stage, model, tools=tools, previous_response_id=first["id"], input=[output])
    by_input = await respond(stage, model, tools=tools, input=whole)

    assert (by_id.status, by_input.status) == (200, 200), (by_id.body, by_input.body)
    _, *later = stage.upstream.asked(model)
    for body in later:
        user, assistant, result = body["messages"]
        assert user["role"] == "user"
        (call,) = assistant["tool_calls"]
        assert (call["id"], call[call["type"]]["name"]) == ("c1", "patch")
        assert result == {"role": "tool", "tool_call_id": "c1", "content": "done"}
    assert later[0]["messages"] == later[1]["messages"]
