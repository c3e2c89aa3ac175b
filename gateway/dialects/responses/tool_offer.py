"""Translate the tools of a Responses request, and the choice among them, for a chat request. Pure.

Hosted tools cannot be run here. They are left out, and refused only if the request demands one of them. Not here: the
names of tools (tools.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.dialects.responses.checks import list_of, need, object_of, text_of
from gateway.dialects.responses.tools import Declaration, ToolNames, declarations
from shared.model.bounds import TOOLS
from shared.model.errors import InvalidRequest

_MODES = ("none", "auto", "required")
_FUNCTION_FIELDS = ("description", "parameters", "strict")
_ONE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class _Choice:
    """Hold the tools that may be called, and the `tool_choice` of the chat request."""

    allowed: Sequence[Declaration]
    chat: object

    @property
    def demands(self) -> bool:
        """Return whether the model has to call a tool."""
        return self.chat not in (None, "none", "auto")


def check_tools(given: object, where: str) -> list[Any]:
    """Check the declarations of tools.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    tools = list_of(given, where)
    check_count(tools, where)
    for number, tool in enumerate(tools):
        here = f"{where}[{number}]"
        _check_tool(object_of(tool, here, optional=False), here)
        if tool["type"] == "namespace":
            need(tool, here, name=str)
            for inner, each in enumerate(list_of(tool.get("tools"), f"{here}.tools")):
                _check_tool(object_of(each, f"{here}.tools[{inner}]", optional=False), f"{here}.tools[{inner}]")
    return tools


def check_count(tools: Sequence[object], where: str) -> None:
    """Raise InvalidRequest if these are too many tools, those inside namespaces included."""
    inner = (tool.get("tools") for tool in tools if isinstance(tool, dict))
    if len(tools) + sum(len(each) for each in inner if isinstance(each, list)) > TOOLS:
        raise InvalidRequest(f"{where} must have at most {TOOLS} tools, those in namespaces included.", param=where)


def _check_tool(tool: Mapping[str, Any], where: str) -> None:
    need(tool, where, type=str)
    if tool["type"] not in ("function", "custom"):
        return
    need(tool, where, name=str)
    if not tool["name"]:
        raise InvalidRequest(f"{where}.name must be a string that is not empty.", param=f"{where}.name")
    text_of(tool, "description", f"{where}.description")
    object_of(tool.get("parameters"), f"{where}.parameters")
    form = object_of(tool.get("format"), f"{where}.format")
    if form.get("type") == "grammar":
        need(form, f"{where}.format", syntax=str, definition=str)


def tool_options(tools: Sequence[object], choice: object, parallel: bool | None) -> dict[str, Any]:
    """Translate checked tools and the choice among them into the fields of a chat request.

    Raises:
        InvalidRequest: `choice` demands a tool that does not exist or cannot be run here.
    """
    declared = {declaration.key: (declaration, definition) for declaration, definition in declarations(tools)}
    names = ToolNames(declaration for declaration, _ in declared.values())
    chosen = _chosen(choice, [declaration for declaration, _ in declared.values()], names)
    if not chosen.allowed:
        if chosen.demands:
            raise _nothing_to_choose(tools)
        return {}
    offered = [_offer(names, *declared[declaration.key]) for declaration in chosen.allowed]
    options: dict[str, Any] = {"tools": offered}
    if chosen.chat is not None:
        options["tool_choice"] = chosen.chat
    if parallel is not None:
        options["parallel_tool_calls"] = parallel
    return options


def _nothing_to_choose(tools: Sequence[object]) -> InvalidRequest:
    if not tools:
        return InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")
    return InvalidRequest(
        "tool_choice must be auto or none: none of these tools can be run here; functions and custom tools can.",
        param="tool_choice",
    )


def _offer(names: ToolNames, declaration: Declaration, definition: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: definition[name] for name in _FUNCTION_FIELDS if definition.get(name) is not None}
    if declaration.custom:
        fields = _described(definition) | {"parameters": _ONE_TEXT}
    return {"type": "function", "function": {"name": names.upstream(declaration.name, declaration.namespace), **fields}}


def _described(custom: Mapping[str, Any]) -> dict[str, str]:
    """Describe a custom tool, with its grammar for the model: no chat upstream enforces it."""
    texts = [custom.get("description") or ""]
    form = custom.get("format") or {}
    if form.get("type") == "grammar":
        texts.append(f"The input must follow this {form['syntax']} grammar:\n{form['definition']}")
    description = "\n\n".join(filter(None, texts))
    return {"description": description} if description else {}


# --- The choice


def _chosen(choice: object, declared: Sequence[Declaration], names: ToolNames) -> _Choice:
    match choice:
        case None | "none" | "auto" | "required":
            return _Choice(declared, choice)
        case {"type": "function" | "custom", "name": str(name), **rest}:
            if not declared:
                return _Choice((), choice)
            found = _found(name, rest.get("namespace"), "tool_choice", _by_name(declared))
            upstream = names.upstream(found.name, found.namespace)
            return _Choice(declared, {"type": "function", "function": {"name": upstream}})
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
            return _Choice(_allowed(allowed, declared), mode)
        case {"type": str(kind)} if kind not in ("function", "custom", "allowed_tools"):
            raise InvalidRequest(
                f"tool_choice must not demand {kind[:64]}: it cannot be run here; functions and custom tools can.",
                param="tool_choice",
            )
    raise InvalidRequest(
        f"tool_choice must be {', '.join(_MODES)}, "
        '{"type": "function" or "custom", "name": ...} or {"type": "allowed_tools", "mode": ..., "tools": [...]}.',
        param="tool_choice",
    )


def _allowed(entries: Sequence[object], declared: Sequence[Declaration]) -> list[Declaration]:
    """Find the allowed tools, in the order of their declaration; hosted ones are passed over."""
    check_count(entries, "tool_choice.tools")
    allowed: set[Declaration] = set()
    named, spaces = _by_name(declared), set()
    for number, entry in enumerate(entries):
        where = f"tool_choice.tools[{number}]"
        tool = object_of(entry, where, optional=False)
        if tool.get("type") == "namespace":
            spaces.add(str(tool.get("name")))
        elif tool.get("type") in ("function", "custom"):
            need(tool, where, name=str)
            allowed.add(_found(tool["name"], tool.get("namespace"), f"{where}.name", named))
    return [each for each in declared if each in allowed or each.namespace in spaces]


def _by_name(declared: Iterable[Declaration]) -> Mapping[str, Sequence[Declaration]]:
    named: dict[str, list[Declaration]] = {}
    for each in declared:
        named.setdefault(each.name, []).append(each)
    return named


def _found(name: str, namespace: object, where: str, named: Mapping[str, Sequence[Declaration]]) -> Declaration:
    """Find a named tool; a name without a namespace may mean the only tool of that name in any of them."""
    same = named.get(name, ())
    exact = [each for each in same if each.namespace == namespace]
    if exact or (len(same) == 1 and namespace is None):
        return (exact or same)[0]
    raise InvalidRequest(
        f"{where} must name one of the tools; a name that several namespaces have needs its namespace.",
        param=where,
    )
