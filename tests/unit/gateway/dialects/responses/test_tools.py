"""Test the names of declared tools upstream, and the way back from a name that a model calls."""

import re
from typing import Any

import pytest

from gateway.dialects.responses.tools import ADDITIONAL_TOOLS, Declaration, ToolNames, declarations

UPSTREAM_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def function(name: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


def custom(name: str) -> dict[str, Any]:
    return {"type": "custom", "name": name}


def namespace(name: str, *tools: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "Some.", "tools": list(tools)}


def names(*tools: Any) -> ToolNames:
    return ToolNames.of({"tools": list(tools)})


class TestNames:
    def test_a_plain_function_keeps_its_name(self) -> None:
        found = names(function("run"))

        assert found.upstream("run") == "run"
        assert found.declaration("run") == Declaration("run")

    def test_a_custom_tool_is_known_by_its_name(self) -> None:
        assert names(custom("patch")).declaration("patch") == Declaration("patch", custom=True)

    def test_a_function_of_a_namespace_keeps_its_name_while_no_other_tool_has_it(self) -> None:
        found = names(function("run"), namespace("agents", function("spawn"), custom("ask")))

        assert found.upstream("spawn", "agents") == "spawn"
        assert found.declaration("spawn") == Declaration("spawn", "agents")
        assert found.declaration("ask") == Declaration("ask", "agents", custom=True)

    def test_a_name_that_several_tools_have_is_prefixed_with_the_namespace(self) -> None:
        found = names(namespace("a", function("run")), function("run"), namespace("b", function("run")))

        assert [found.upstream("run", ns) for ns in (None, "a", "b")] == ["run", "a__run", "b__run"]
        assert found.declaration("a__run") == Declaration("run", "a")
        assert found.declaration("run") == Declaration("run")

    def test_a_prefixed_name_never_takes_that_of_another_tool(self) -> None:
        found = names(namespace("a", function("run")), namespace("b", function("run")), function("a__run"))

        assert found.upstream("a__run") == "a__run"
        assert found.declaration(found.upstream("run", "a")) == Declaration("run", "a")
        assert found.upstream("run", "a").startswith("a__run_")

    @pytest.mark.parametrize("name", ["fs.read", "a b", "查询", "", "x" * 65, "x" * 128])
    def test_a_name_that_upstreams_do_not_take_is_replaced_and_found_again(self, name: str) -> None:
        found = names(function(name), function("x" * 64), namespace("n" * 64, function(name), custom("y")))

        for declared in (Declaration(name), Declaration(name, "n" * 64), Declaration("x" * 64)):
            upstream = found.upstream(declared.name, declared.namespace)
            assert UPSTREAM_NAME.fullmatch(upstream)
            assert found.declaration(upstream) == declared

    def test_two_names_that_differ_only_in_foreign_characters_stay_two(self) -> None:
        found = names(function("a.b"), function("a/b"), function("a_b"))

        assert found.upstream("a_b") == "a_b"
        assert len({found.upstream(name) for name in ("a.b", "a/b", "a_b")}) == 3

    def test_a_name_does_not_depend_on_the_order_of_the_tools(self) -> None:
        tools = [function("a.b"), namespace("a", function("run")), namespace("b", function("run"))]

        one, other = names(*tools), names(*reversed(tools))

        for name, space in (("a.b", None), ("run", "a"), ("run", "b")):
            assert one.upstream(name, space) == other.upstream(name, space)

    def test_an_undeclared_name_is_a_plain_function(self) -> None:
        found = names(function("run"))

        assert found.declaration("gone") == Declaration("gone")
        assert found.upstream("gone") == "gone"
        assert found.upstream("gone", "agents") == "gone"
        assert found.upstream("run", "agents") == "agents__run"
        assert UPSTREAM_NAME.fullmatch(found.upstream("no longer here", "agents"))

    def test_tools_that_items_have_added_count_and_the_last_definition_of_a_tool_does(self) -> None:
        found = ToolNames.of({"tools": [function("run")], ADDITIONAL_TOOLS: [custom("run"), custom("patch")]})

        assert found.declaration("run") == Declaration("run", custom=True)
        assert found.declaration("patch") == Declaration("patch", custom=True)


class TestDeclarations:
    def test_hosted_and_malformed_tools_are_passed_over(self) -> None:
        odd = [{"type": "web_search"}, "run", None, function(7), {"type": "namespace", "name": "a", "tools": None}]

        assert list(declarations([*odd, function("run", strict=True)])) == [
            (Declaration("run"), function("run", strict=True))
        ]

    def test_an_echo_without_tools_has_no_declarations(self) -> None:
        assert ToolNames.of({}).declaration("run") == Declaration("run")
        assert ToolNames.of({"tools": "none"}).upstream("run") == "run"

    def test_a_namespace_inside_a_namespace_is_passed_over(self) -> None:
        assert list(declarations([namespace("a", namespace("b", function("run")))])) == []
