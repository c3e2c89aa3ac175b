"""Check the values of a Responses request: each function returns a typed value, or refuses its field. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.model.errors import InvalidRequest

_NAMES = {str: "a string", dict: "an object", list: "a list", (str, list): "a string or a list"}


def object_of(value: object, where: str, *, optional: bool = True) -> dict[str, Any]:
    """Check an object; a missing one is empty if it is `optional`."""
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object.", param=where)
    return value


def list_of(value: object, where: str) -> list[Any]:
    """Check a list; a missing one is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{where} must be a list.", param=where)
    return value


def need(given: Mapping[str, Any], where: str, **types: Any) -> None:
    """Raise InvalidRequest unless these fields are present and have these types."""
    for name, type_ in types.items():
        if not isinstance(given.get(name), type_):
            raise InvalidRequest(f"{where}.{name} must be {_NAMES[type_]}.", param=f"{where}.{name}")


def flag(given: Mapping[str, Any], name: str, default: bool) -> bool:
    """Check a boolean field."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return value


def text_of(given: Mapping[str, Any], name: str, where: str = "") -> str:
    """Check a text field; a missing one is empty. `where` is the caller's name for it, if it differs."""
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{where or name} must be a string.", param=where or name)
    return value


def whole_number(given: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    """Check a whole number within these bounds."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise InvalidRequest(f"{name} must be a whole number {bounds}.", param=name)
    return value


def one_of(value: object, where: str, known: Sequence[str]) -> None:
    """Raise InvalidRequest unless a value is one of these words, or missing."""
    if value is not None and value not in known:
        raise InvalidRequest(f"{where} must be one of: {', '.join(known)}.", param=where)
