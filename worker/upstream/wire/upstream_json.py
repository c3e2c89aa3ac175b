"""JSON as upstreams write it: with NaN and Infinity, which JSON does not have, and perhaps nested without end.

Pure. Not here: the meaning of the JSON.
"""

from json import JSONDecoder

NESTING = 200
"""Levels of objects and lists. A recursive encoder or decoder behind this one must not run out of stack."""

# One for all: `json.loads` makes a new one for each call with an option.
_decode = JSONDecoder(parse_constant=lambda name: None).raw_decode
_DEEP_CHARS = 2 * NESTING


def decode_json(text: str) -> object:
    """Decode a text; a number that JSON has no word for becomes None.

    Raises:
        ValueError: it is not JSON, or nested more than NESTING deep.
    """
    text = text.strip()
    try:
        value: object
        value, end = _decode(text)
    except RecursionError as error:
        raise ValueError("It is nested too deep.") from error
    if end != len(text):
        raise ValueError("Something follows the JSON.")
    # Most texts are too short to be deep, or have too few brackets.
    if end > _DEEP_CHARS and text.count("{") + text.count("[") > NESTING and _depth(value) > NESTING:
        raise ValueError("It is nested too deep.")
    return value


def _depth(value: object) -> int:
    """Count the levels of a value, up to one more than is allowed."""
    level, depth = [value], 0
    while depth <= NESTING and (level := [each for each in level if isinstance(each, dict | list)]):
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth
