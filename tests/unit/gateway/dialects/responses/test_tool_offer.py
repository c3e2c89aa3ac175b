"""Test the tools that a chat request offers, and the choice among them."""

from typing import Any

import pytest

from gateway.dialects.responses.tool_offer import check_tools, tool_options
from shared.model.bounds import TOOLS
from shared.model.errors import InvalidRequest
from tests.unit.gateway.dialects.responses.test_tools import custom, function, namespace

HOSTED = [
    *("web_search", "web_search_preview", "web_search_2025_08_26", "file_search", "code_interpreter", "mcp"),
    *("image_generation", "computer", "computer_use_preview", "shell", "local_shell", "apply_patch", "tool_search"),
    *("programmatic_tool_calling", "something_new"),
]
AGENTS = namespace("agents", function("spawn"), custom("ask"))
# As Codex CLI 0.171 declares them with its default configuration.
CODEX = [
    {"type": "function", "name": "run", "parameters": {}},
    namespace("agents", function("spawn", parameters={"type": "object"})),
    {"type": "web_search", "external_web_access": False},
]


def options(tools: list[Any], choice: Any = None, parallel: bool | None = None) -> dict[str, Any]:
    return tool_options(check_tools(tools, "tools"), choice, parallel)


def offered(tools: list[Any], choice: Any = None) -> list[str]:
    return [tool["function"]["name"] for tool in options(tools, choice).get("tools", ())]


def refusal(tools: list[Any], choice: Any = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        options(tools, choice)
    return caught.value


class TestTheOffer:
    def test_the_tools_of_codex_are_its_functions(self) -> None:
        assert options(CODEX, "auto", True) == {
            "tools": [
                {"type": "function", "function": {"name": "run", "parameters": {}}},
                {"type": "function", "function": {"name": "spawn", "parameters": {"type": "object"}}},
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }

    @pytest.mark.parametrize("kind", HOSTED)
    @pytest.mark.parametrize("choice", [None, "auto", "none"])
    def test_a_tool_that_can_not_be_run_here_is_left_out(self, kind: str, choice: str | None) -> None:
        assert offered([{"type": kind}, function("run")], choice) == ["run"]
        assert options([{"type": kind}], choice, True) == {}

    def test_a_custom_tool_is_a_function_of_one_text(self) -> None:
        assert options([custom("patch")])["tools"] == [
            {
                "type": "function",
                "function": {
                    "name": "patch",
                    "parameters": {
                        "type": "object",
                        "properties": {"input": {"type": "string"}},
                        "required": ["input"],
                        "additionalProperties": False,
                    },
                },
            }
        ]

    def test_the_grammar_of_a_custom_tool_is_in_its_description(self) -> None:
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
        described = {**custom("patch"), "description": "Patches.", "format": grammar}

        (tool,) = options([described])["tools"]
        (plain,) = options([{**described, "format": {"type": "text"}}])["tools"]

        assert tool["function"]["description"] == ("Patches.\n\nThe input must follow this lark grammar:\nstart: WORD")
        assert plain["function"]["description"] == "Patches."

    def test_fields_that_only_openais_servers_know_are_left_out(self) -> None:
        tool = function("f", strict=None, parameters=None, defer_loading=True, allowed_callers=["direct"])

        assert options([tool])["tools"] == [{"type": "function", "function": {"name": "f"}}]

    def test_a_tool_that_is_declared_again_is_offered_once_as_it_was_last(self) -> None:
        (tool,) = options([function("f"), function("f", description="New.")])["tools"]

        assert tool["function"] == {"name": "f", "description": "New."}


class TestTheChoice:
    @pytest.mark.parametrize("choice", ["none", "auto", "required"])
    def test_a_mode_is_passed_on(self, choice: str) -> None:
        assert options([function("f")], choice)["tool_choice"] == choice
        assert "tool_choice" not in options([function("f")])

    @pytest.mark.parametrize(
        ("choice", "upstream"),
        [
            ({"type": "function", "name": "run"}, "run"),
            ({"type": "custom", "name": "patch"}, "patch"),
            ({"type": "function", "name": "spawn"}, "spawn"),
            ({"type": "function", "name": "run", "namespace": "agents"}, "agents__run"),
        ],
        ids=str,
    )
    def test_a_tool_may_be_demanded_by_its_name(self, choice: dict[str, Any], upstream: str) -> None:
        tools = [function("run"), custom("patch"), namespace("agents", function("spawn"), function("run"))]

        asked = options(tools, choice)

        assert asked["tool_choice"] == {"type": "function", "function": {"name": upstream}}
        assert len(asked["tools"]) == 4

    @pytest.mark.parametrize("mode", ["auto", "required"])
    def test_allowed_tools_are_the_only_ones_on_offer(self, mode: str) -> None:
        allowed = [{"type": "custom", "name": "patch"}, {"type": "function", "name": "run"}, {"type": "web_search"}]
        choice = {"type": "allowed_tools", "mode": mode, "tools": allowed}

        asked = options([function("run"), function("walk"), custom("patch"), {"type": "web_search"}], choice)

        assert [tool["function"]["name"] for tool in asked["tools"]] == ["run", "patch"]
        assert asked["tool_choice"] == mode

    def test_a_whole_namespace_may_be_allowed(self) -> None:
        choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "agents"}]}

        assert offered([function("run"), AGENTS], choice) == ["spawn", "ask"]

    def test_names_do_not_depend_on_the_allowed_tools(self) -> None:
        tools = [function("spawn"), AGENTS]
        entry = {"type": "function", "name": "spawn", "namespace": "agents"}

        assert offered(tools, {"type": "allowed_tools", "mode": "auto", "tools": [entry]}) == ["agents__spawn"]

    def test_hosted_tools_may_be_allowed_and_are_not_there(self) -> None:
        choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}

        assert options([function("run"), {"type": "web_search"}], choice) == {}

    @pytest.mark.parametrize("kind", HOSTED)
    def test_a_tool_that_can_not_be_run_here_must_not_be_demanded(self, kind: str) -> None:
        demanded = refusal([{"type": kind}, function("run")], {"type": kind})
        only = refusal([{"type": kind}], "required")

        assert (demanded.param, only.param) == ("tool_choice", "tool_choice")
        assert kind in str(demanded)

    @pytest.mark.parametrize(
        ("choice", "param"),
        [
            ("any", "tool_choice"),
            (7, "tool_choice"),
            ({}, "tool_choice"),
            ({"type": "function"}, "tool_choice"),
            ({"type": "function", "function": {"name": "run"}}, "tool_choice"),
            ({"type": "function", "name": "walk"}, "tool_choice"),
            ({"type": "function", "name": "spawn"}, "tool_choice"),
            ({"type": "function", "name": "spawn", "namespace": "c"}, "tool_choice"),
            ({"type": "allowed_tools", "mode": "none", "tools": []}, "tool_choice"),
            ({"type": "allowed_tools", "mode": "auto"}, "tool_choice"),
            ({"type": "allowed_tools", "mode": "required", "tools": []}, "tool_choice"),
            ({"type": "allowed_tools", "mode": "auto", "tools": ["run"]}, "tool_choice.tools[0]"),
            ({"type": "allowed_tools", "mode": "auto", "tools": [function(7)]}, "tool_choice.tools[0].name"),
            ({"type": "allowed_tools", "mode": "auto", "tools": [function("walk")]}, "tool_choice.tools[0].name"),
        ],
        ids=str,
    )
    def test_a_choice_that_can_not_be_met_is_refused_by_its_place(self, choice: Any, param: str) -> None:
        tools = [function("run"), namespace("a", function("spawn")), namespace("b", function("spawn"))]

        error = refusal(tools, choice)

        assert error.param == param
        assert str(error).startswith(param)

    @pytest.mark.parametrize(
        "choice", ["required", {"type": "function", "name": "run"}, {"type": "custom", "name": "run"}], ids=str
    )
    def test_a_demand_needs_tools(self, choice: Any) -> None:
        assert str(refusal([], choice)) == "tool_choice needs tools to choose from."
        assert refusal([{"type": "web_search"}], choice).param == "tool_choice"


class TestDeclarations:
    @pytest.mark.parametrize(
        ("tool", "param"),
        [
            ("f", "tools[0]"),
            (None, "tools[0]"),
            ({}, "tools[0].type"),
            ({"type": 7}, "tools[0].type"),
            ({"type": "function"}, "tools[0].name"),
            (function(""), "tools[0].name"),
            ({"type": "function", "function": {"name": "f"}}, "tools[0].name"),
            (function("f", parameters="none"), "tools[0].parameters"),
            (function("f", description=7), "tools[0].description"),
            ({"type": "custom"}, "tools[0].name"),
            ({**custom("f"), "format": "lark"}, "tools[0].format"),
            ({**custom("f"), "format": {"type": "grammar", "syntax": "lark"}}, "tools[0].format.definition"),
            ({"type": "namespace", "tools": []}, "tools[0].name"),
            ({"type": "namespace", "name": "a", "tools": {}}, "tools[0].tools"),
            (namespace("a", "f"), "tools[0].tools[0]"),
            (namespace("a", function("f"), {"type": "function"}), "tools[0].tools[1].name"),
        ],
        ids=str,
    )
    def test_a_malformed_declaration_is_refused_by_its_place(self, tool: Any, param: str) -> None:
        error = refusal([tool])

        assert error.param == param
        assert str(error).startswith(f"{param} must be")

    def test_deep_nesting_is_not_followed(self) -> None:
        nested: dict[str, Any] = function("f")
        for _ in range(5000):
            nested = namespace("a", nested)

        assert options([nested]) == {}


class TestHowManyThereMayBe:
    def test_as_many_as_the_bound_are_taken(self) -> None:
        tools = [function(f"f{number}") for number in range(TOOLS)]

        assert len(offered(tools)) == TOOLS

    @pytest.mark.parametrize(
        "tools",
        [
            [function(f"f{number}") for number in range(TOOLS + 1)],
            [namespace("a", *(function(f"f{number}") for number in range(TOOLS)))],
            [namespace(f"n{number}", function("f")) for number in range(TOOLS // 2 + 1)],
        ],
        ids=["plain", "in a namespace", "in namespaces"],
    )
    def test_more_are_refused(self, tools: list[Any]) -> None:
        assert refusal(tools).param == "tools"
        assert str(TOOLS) in str(refusal(tools))

    def test_more_allowed_ones_are_refused(self) -> None:
        choice = {"type": "allowed_tools", "mode": "auto", "tools": [function("run")] * (TOOLS + 1)}

        assert refusal([function("run")], choice).param == "tool_choice.tools"
