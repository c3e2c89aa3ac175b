"""The references of a request to the answers of the job's parents: find them, and put the answers in their place.

`{{outline}}` in any text stands for the text of the parent named outline. The object `{"$result": "outline"}` stands
for its result as a value. A text that was put in is not read for further references, and neither are names of fields.
Pure. Not here: the parents' answers (worker/execution/parent_answers.py).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.model.bounds import FILLED_BYTES
from shared.model.errors import InvalidRequest, ParentsTooLarge

RESULT: Final = "$result"
_TEXT: Final = re.compile(r"\{\{ ?([A-Za-z0-9_-]{1,64}) ?\}\}")


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: the name, the path of the field that holds it, and whether it stands for a value or a text."""

    name: str
    path: str
    is_value: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A parent's answer in both forms."""

    text: str = ""
    value: Any = None


def references_in(request: Mapping[str, Any]) -> Iterator[Reference]:
    """Yield the references of a request, in its order.

    Raises:
        InvalidRequest: an object with `$result` has other fields, or does not name a parent.
    """
    for name, value in request.items():
        yield from _references(value, name)


def check_references(request: Mapping[str, Any], names: Mapping[str, str], *, has_values: bool) -> None:
    """Check that a request refers only to these parents, and to values only if its kind `has_values`.

    Raises:
        InvalidRequest: names the field, the unknown name and the known ones.
    """
    for reference in references_in(request):
        if reference.name not in names:
            raise InvalidRequest(
                f"{reference.path} refers to {reference.name}, which is not in after; the names are: "
                f"{', '.join(names)}.",
                param=reference.path,
            )
        if reference.is_value and not has_values:
            raise InvalidRequest(
                f"{reference.path}: {RESULT} is for kinds that are functions; "
                f"write {{{{{reference.name}}}}} into a text.",
                param=reference.path,
            )


def names_mentioned(request: object) -> Iterator[str]:
    """Yield the names that a request would refer to if its job came after others."""
    if isinstance(request, str):
        yield from (found[1] for found in _TEXT.finditer(request))
    elif isinstance(request, list):
        for each in request:
            yield from names_mentioned(each)
    elif isinstance(request, dict):
        if isinstance(name := request.get(RESULT), str):
            yield name
        for each in request.values():
            yield from names_mentioned(each)


def holds_values(value: object, path: str) -> bool:
    """Return whether the field at this path has a `$result`, so that only the worker can check it.

    Raises:
        InvalidRequest: as `references_in`.
    """
    return any(reference.is_value for reference in _references(value, path))


def fill(request: Mapping[str, Any], answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return the request with the answers in place of all references.

    Raises:
        ParentsTooLarge: all insertions together are over `FILLED_BYTES`.
    """
    # The sum is checked before any text is made: one answer may be inserted many times.
    if sum(len(answers[reference.name].text) for reference in references_in(request)) > FILLED_BYTES:
        raise ParentsTooLarge.at(FILLED_BYTES)
    return {name: _filled(value, answers) for name, value in request.items()}


def _references(value: object, path: str) -> Iterator[Reference]:
    if isinstance(value, str):
        for found in _TEXT.finditer(value):
            yield Reference(found[1], path, is_value=False)
    elif isinstance(value, list):
        for position, each in enumerate(value):
            yield from _references(each, f"{path}[{position}]")
    elif isinstance(value, dict):
        if RESULT in value:
            yield _value_reference(value, path)
            return
        for name, each in value.items():
            yield from _references(each, f"{path}.{name}")


def _value_reference(value: Mapping[str, Any], path: str) -> Reference:
    if len(value) != 1 or not isinstance(value[RESULT], str):
        raise InvalidRequest(
            f'{path} must be an object with nothing but {RESULT} and a name, as in {{"{RESULT}": "outline"}}.',
            param=path,
        )
    return Reference(value[RESULT], path, is_value=True)


def _filled(value: Any, answers: Mapping[str, Answer]) -> Any:
    if isinstance(value, str):
        return _TEXT.sub(lambda found: answers[found[1]].text, value)
    if isinstance(value, list):
        return [_filled(each, answers) for each in value]
    if isinstance(value, dict):
        if RESULT in value:
            return answers[value[RESULT]].value
        return {name: _filled(each, answers) for name, each in value.items()}
    return value
