"""Read the `input` of an embeddings request, in each of the four shapes that OpenAI's API accepts.

Pure. Not here: the other fields (validation.py).
"""

from shared.model.errors import InvalidRequest

Input = str | list[int]
"""A text, or the tokens of a text."""

_MOST_TOKEN = 2**31 - 1
_SHAPES = "input must be a string, a list of strings, a list of tokens or a list of lists of tokens"


def read_input(value: object, most: int) -> list[Input]:
    """Read the inputs: at least one and at most `most`, none of them empty (OpenAI API reference, embeddings/create).

    Raises:
        InvalidRequest: names the place and its valid values.
    """
    if isinstance(value, str):
        return [_text(value, "input")]
    if not isinstance(value, list):
        raise InvalidRequest(f"{_SHAPES}.", param="input")
    if not value:
        raise InvalidRequest("input must not be empty.", param="input")
    if _is_token(value[0]):
        return [_tokens(value, "input")]
    if len(value) > most:
        raise InvalidRequest(f"input must be at most {most} inputs, and is {len(value)}.", param="input")
    read = _text if isinstance(value[0], str) else _tokens
    return [read(each, f"input[{position}]") for position, each in enumerate(value)]


def _text(value: object, where: str) -> Input:
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} must be a string, as the others are: {_SHAPES}.", param=where)
    if not value:
        raise InvalidRequest(f"{where} must not be empty.", param=where)
    return value


def _tokens(value: object, where: str) -> Input:
    if not isinstance(value, list):
        raise InvalidRequest(f"{where} must be a string or a list of tokens: {_SHAPES}.", param=where)
    if not value:
        raise InvalidRequest(f"{where} must not be empty.", param=where)
    for position, token in enumerate(value):
        if not _is_token(token):
            raise InvalidRequest(
                f"{where}[{position}] must be a token, a whole number from 0 to {_MOST_TOKEN}.",
                param=f"{where}[{position}]",
            )
    return value


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKEN
