"""Choose the upstream's answer to a chat: a text, calls of the caller's tools, or JSON of the form it asked for.

The decision depends on the request alone, so that a test knows the answer. Not here:
refusals (strictness.py), and the bytes of an answer (speech.py).
"""

import json
from dataclasses import dataclass
from typing import Any

TEXT = "Hello from the zoo: naïve pandas 🐼 and \u2028 quiet owls."
"""The answer to a question that asks for nothing else."""
CITIES = ("Bergen", "Oslo", "Tromsø")
CITY, DEGREES = "Bergen", 7
"""The values in an answer with a form, by type: text and number."""
RUN = "Please run: "
"""A question that contains this and then a command makes a coding agent run the command."""
_NEW_TASK = "New task:"
"""smolagents writes this between a tool's result and the next question."""
_SHELLS = {"exec_command": "cmd", "shell_command": "command"}
"""Tools that run a command, and the parameter that takes it as a text."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """One answer. `thoughts` and `signature` are state that some vendors demand back with the calls."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    thoughts: str = ""
    signature: str = ""


def thoughts_before(call_id: str) -> str:
    """Return the thoughts of the answer that begins with this call."""
    return f"I must look: {call_id} will tell."


def signature_of(call_id: str) -> str:
    """Return the thought signature of the answer that begins with this call."""
    return f"c2ln-{call_id}"


def answer_to(body: dict[str, Any]) -> Answer:
    """Decide on the answer to a request that is well-formed."""
    text, calls = _decision(body)
    first = _calls_so_far(body)
    made = tuple(
        Call(f"zoo{first + number:06d}", name, json.dumps(arguments, ensure_ascii=False))
        for number, (name, arguments) in enumerate(calls)
    )
    if not made:
        return Answer(text, thoughts="I know that.")
    return Answer(text, made, thoughts_before(made[0].id), signature_of(made[0].id))


_Decision = tuple[str, list[tuple[str, dict[str, Any]]]]


def _decision(body: dict[str, Any]) -> _Decision:
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or () if "function" in tool}
    if forced := _forced_tool(body, tools):
        return "", [(forced, sample(tools[forced].get("parameters") or {}))]
    results, question = results_of(body), question_of(body)
    if results:
        summary = f"The tools say: {'; '.join(results)}."
        return ("", [("final_answer", {"answer": summary})]) if "final_answer" in tools else (summary, [])
    if shell := next((name for name in tools if name in _SHELLS), None):
        if RUN in question:
            return "", [(shell, {_SHELLS[shell]: question.partition(RUN)[2].splitlines()[0].strip()})]
    elif "get_weather" in tools and (cities := [city for city in CITIES if city in question]):
        return "", [("get_weather", {"city": city}) for city in cities]
    if (form := body.get("response_format") or {}).get("type") in ("json_schema", "json_object"):
        schema = (form.get("json_schema") or {}).get("schema")
        return json.dumps(sample(schema) if schema else {"city": CITY, "degrees": DEGREES}), []
    if "final_answer" in tools:
        return "", [("final_answer", {"answer": TEXT})]
    return TEXT, []


def _forced_tool(body: dict[str, Any], tools: dict[str, Any]) -> str | None:
    """Return the tool that the request demands: by name, or as the only one that is not the weather's."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    others = [name for name in tools if name not in ("get_weather", "final_answer")]
    return others[0] if choice == "required" and len(others) == 1 else None


def results_of(body: dict[str, Any]) -> list[str]:
    """Return the results of tools that the chat ends with."""
    results: list[str] = []
    for message in reversed(body["messages"]):
        if message["role"] != "tool" and not _is_observation(message):
            break
        results.insert(0, text_of(message.get("content")))
    return results


def question_of(body: dict[str, Any]) -> str:
    """Return the newest question of the user."""
    newest = next((text_of(m.get("content")) for m in reversed(body["messages"]) if m["role"] == "user"), "")
    return newest.rpartition(_NEW_TASK)[2]


def text_of(content: Any) -> str:
    """Return a message's content as a text."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _is_observation(message: dict[str, Any]) -> bool:
    """Return whether it is a tool's result that the client reports in words (smolagents)."""
    text = text_of(message.get("content"))
    return message["role"] == "user" and text.startswith("Observation:") and _NEW_TASK not in text


def _calls_so_far(body: dict[str, Any]) -> int:
    return sum(len(message.get("tool_calls") or ()) for message in body["messages"])


def sample(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """Make a value that satisfies a JSON schema."""
    root = schema if root is None else root
    if "$ref" in schema:
        return sample(root[schema["$ref"].split("/")[-2]][schema["$ref"].split("/")[-1]], root)
    if "enum" in schema or "const" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return sample(next(each for each in schema[key] if each.get("type") != "null"), root)
    match schema.get("type", "object"):
        case "object":
            return {name: sample(each, root) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema.get("items", {"type": "string"}), root)]
        case "integer" | "number":
            return DEGREES
        case "boolean":
            return True
        case _:
            return CITY
