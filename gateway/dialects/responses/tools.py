"""Name the declared tools of Responses upstream, and find the declaration behind a name that a model calls. Pure.

Chat completions offer functions only, under names of a limited alphabet. A custom tool and a function inside a
namespace are therefore offered as plain functions. Not here: the tools in a chat request (tool_offer.py).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ADDITIONAL_TOOLS: Final = "additional_tools"
"""The key under which a response's echo holds the tools that items of its input have added. It is never shown."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME, _HASH_CHARS = 64, 8
_KINDS = ("function", "custom")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One function or custom tool, under the names that its caller gave it."""

    name: str
    namespace: str | None = None
    custom: bool = False

    @property
    def key(self) -> tuple[str | None, str]:
        """Return the pair that identifies the tool within one request."""
        return self.namespace, self.name


class ToolNames:
    """Map the names of declared tools to those upstream, and back.

    A tool's upstream name is its own name if no other tool has it, else `<namespace>__<name>`. A name that upstreams
    do not take is cut and marked with a hash.
    """

    def __init__(self, declared: Iterable[Declaration]) -> None:
        unique = {each.key: each for each in declared}
        same = Counter(name for _, name in unique)
        self._declared: dict[str, Declaration] = {}
        # Plain functions come first: a namespace must not take a name that a caller has spelled out.
        for each in sorted(unique.values(), key=lambda each: each.namespace is not None):
            plain = each.namespace is None or same[each.name] == 1
            wanted = each.name if plain else f"{each.namespace}__{each.name}"
            self._declared[wanted if self._free(wanted) else _marked(wanted, each.key)] = each
        self._upstream = {each.key: name for name, each in self._declared.items()}

    @classmethod
    def of(cls, echo: Mapping[str, Any]) -> "ToolNames":
        """Read the names from a response's echo: its `tools`, and those that its input has added."""
        return cls(each for each, _ in declarations([*_list(echo.get("tools")), *_list(echo.get(ADDITIONAL_TOOLS))]))

    def declaration(self, upstream: str) -> Declaration:
        """Find the declaration of the function that a model has called; an unknown one is a plain function."""
        return self._declared.get(upstream) or Declaration(upstream)

    def upstream(self, name: str, namespace: str | None = None) -> str:
        """Find a tool's name upstream, also of a tool that is no longer declared."""
        if (found := self._upstream.get((namespace, name))) is not None:
            return found
        wanted = f"{namespace}__{name}" if namespace is not None and name in self._declared else name
        return wanted if _NAME.fullmatch(wanted) else _marked(wanted, (namespace, name))

    def _free(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and name not in self._declared


def declarations(tools: Iterable[object]) -> Iterator[tuple[Declaration, Mapping[str, Any]]]:
    """Find all functions and custom tools, those inside namespaces included, each with its own definition.

    Hosted tools and malformed entries are passed over.
    """
    for tool in tools:
        match tool:
            case {"type": "namespace", "name": str(namespace), "tools": list(inner)}:
                yield from _declared(inner, namespace)
            case _:
                yield from _declared([tool], None)


def _declared(tools: Sequence[object], namespace: str | None) -> Iterator[tuple[Declaration, Mapping[str, Any]]]:
    for tool in tools:
        if isinstance(tool, dict) and tool.get("type") in _KINDS and isinstance(name := tool.get("name"), str):
            yield Declaration(name, namespace, tool["type"] == "custom"), tool


def _marked(name: str, key: tuple[str | None, str]) -> str:
    """Make a name that upstreams take and that no other tool has."""
    mark = hashlib.sha256(repr(key).encode()).hexdigest()[:_HASH_CHARS]
    return f"{_FOREIGN.sub('_', name)[: _MAX_NAME - _HASH_CHARS - 1]}_{mark}"


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
