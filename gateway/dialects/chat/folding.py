"""Fold fragments of one JSON object into the whole object. Pure.

It serves the fields of a delta that Tailrace passes on without knowing them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# Upstreams may repeat these on every fragment of the same object.
_SAID_ONCE = frozenset({"index", "id", "type", "name", "format"})


def fold_objects(objects: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Fold the fragments of one object, as openai-python's `accumulate_delta` does for one fragment at a time."""
    fragments: dict[str, list[Any]] = {}
    for item in objects:
        for name, value in item.items():
            values = fragments.setdefault(name, [])
            if value is not None:
                values.append(value)
    return {name: _fold(name, values) for name, values in fragments.items()}


def _fold(name: str, values: list[Any]) -> Any:
    """Join texts, extend lists, fold objects; the last value of any other type counts."""
    if not values:
        return None
    last = values[-1]
    if name in _SAID_ONCE:
        return next(filter(None, values), last)
    alike = [value for value in values if type(value) is type(last)]
    if isinstance(last, str):
        return "".join(alike)
    if isinstance(last, dict):
        return fold_objects(alike)
    if isinstance(last, list):
        return _fold_entries(entry for entries in alike for entry in entries)
    return last


def _fold_entries(entries: Iterable[Any]) -> list[Any]:
    """Fold the entries of one index into one entry; entries without an index are whole."""
    numbered: dict[int, list[dict[str, Any]]] = {}
    whole: list[Any] = []
    for entry in entries:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int):
            numbered.setdefault(index, []).append(entry)
        else:
            whole.append(entry)
    return [fold_objects(numbered[index]) for index in sorted(numbered)] + whole
