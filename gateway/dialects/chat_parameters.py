"""Check the parameters of a chat request: each by its type and range; an error names it.

Null counts as absent. A field that is not in `_CHECKS` passes: upstreams have many of their own. A range is OpenAI's,
unless widely used upstreams take more; then it is theirs. Pure; all checks raise InvalidRequest. Not here: messages
(gateway/specs/validation.py), and fields that belong to Tailrace (gateway/specs/own_fields.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.model.bounds import CHOICES
from shared.model.errors import InvalidRequest

Check = Callable[[object, str], None]
"""Checks a value; the second argument is the caller's name for it."""

_TOP_LOGPROBS = 20
_BIAS = 100
# Upstreams read a seed as a signed number of 64 bits.
_SEED = 2**63
_NO_LIMIT = -1


def check_parameters(body: Mapping[str, Any]) -> None:
    """Check all parameters of a chat request that are known here."""
    for name, check in _CHECKS.items():
        if (value := body.get(name)) is not None:
            check(value, name)


def check_parameter(name: str, value: object, param: str | None = None) -> None:
    """Check one parameter, which the caller calls `param`; a name that is not known here passes."""
    if value is not None and name in _CHECKS:
        _CHECKS[name](value, param or name)


# --- Kinds of values


def is_whole(value: object, least: int, most: int) -> bool:
    """Return whether a decoded JSON value is a whole number in this range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _refusal(param: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"{param} must be {must}.", param=param)


def _number(least: int, most: int) -> Check:
    def check(value: object, param: str) -> None:
        if not _is_number(value, least, most):
            raise _refusal(param, f"a number from {least} to {most}")

    return check


def _whole(least: int, most: int) -> Check:
    def check(value: object, param: str) -> None:
        if not is_whole(value, least, most):
            raise _refusal(param, f"a whole number from {least} to {most}")

    return check


def _instance(kind: type, must: str) -> Check:
    def check(value: object, param: str) -> None:
        if not isinstance(value, kind):
            raise _refusal(param, must)

    return check


_flag = _instance(bool, "true or false")
_text = _instance(str, "a string")
_object = _instance(dict, "an object")


# --- Parameters with a form of their own


def _limit(value: object, param: str) -> None:
    if not is_whole(value, 1, _SEED):
        raise _refusal(param, "a whole number of at least 1")


def _old_limit(value: object, param: str) -> None:
    # LM Studio's documentation and llama.cpp write "no limit" as -1, and their clients send it.
    if value != _NO_LIMIT or isinstance(value, bool):
        _limit(value, param)


def _seed(value: object, param: str) -> None:
    if not is_whole(value, -_SEED, _SEED - 1):
        raise _refusal(param, "a whole number of at most 64 bits")


def _stop(value: object, param: str) -> None:
    # OpenAI takes four of them; vLLM and llama.cpp take any number.
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise _refusal(param, "a string or a list of strings")


def _bias(value: object, param: str) -> None:
    # llama.cpp also takes a list of pairs, and `false` for a token that must not appear.
    if isinstance(value, list):
        return
    if not isinstance(value, dict):
        raise _refusal(param, "an object of numbers, by token")
    for token, bias in value.items():
        if bias is not False and not _is_number(bias, -_BIAS, _BIAS):
            raise InvalidRequest(
                f"{param}: the bias of a token, as of {token[:40]!r}, must be a number from -{_BIAS} to {_BIAS}.",
                param=param,
            )


def _effort(value: object, param: str) -> None:
    # OpenAI has words; Fireworks also takes a number of tokens, and true or false.
    if not isinstance(value, str | int):
        raise _refusal(param, "a string, such as low, medium or high")


def _stream_options(value: object, param: str) -> None:
    _object(value, param)
    if isinstance(value, dict) and (include := value.get("include_usage")) is not None:
        _flag(include, f"{param}.include_usage")


def _modalities(value: object, param: str) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _refusal(param, "a list of strings")


def _response_format(value: object, param: str) -> None:
    # Upstreams have types of their own (grammar, regex, structural_tag), and some put the schema beside the type.
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise _refusal(param, "an object with a type, such as text, json_object or json_schema")
    schema = value.get("json_schema")
    if schema is not None:
        _object(schema, f"{param}.json_schema")


def _tools(value: object, param: str) -> None:
    for position, tool in enumerate(_objects(value, param)):
        _tool(tool, f"{param}[{position}]")


def _tool(tool: Mapping[str, Any], where: str) -> None:
    # Upstreams have tools of their own under other types, and vLLM takes a function without a type.
    tool_type = tool.get("type")
    if tool_type is not None:
        _text(tool_type, f"{where}.type")
    for name in ("function", "custom"):
        if tool_type == name or tool.get(name) is not None:
            _named(tool.get(name), f"{where}.{name}")


def _functions(value: object, param: str) -> None:
    for position, function in enumerate(_objects(value, param)):
        _named(function, f"{param}[{position}]")


def _choice(value: object, param: str) -> None:
    if isinstance(value, str):
        return  # upstreams have more words than none, auto and required
    if not isinstance(value, dict):
        raise _refusal(param, "none, auto, required or an object")
    if value.get("type") == "function":
        _named(value.get("function"), f"{param}.function")


def _function_call(value: object, param: str) -> None:
    if not isinstance(value, str):
        _named(value, param)


def _objects(value: object, param: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise _refusal(param, "a list of objects")
    for position, each in enumerate(value):
        _object(each, f"{param}[{position}]")
    return value


def _named(value: object, param: str) -> None:
    if not isinstance(value, dict):
        raise _refusal(param, "an object with a name")
    if not isinstance(name := value.get("name"), str) or not name:
        raise _refusal(f"{param}.name", "a string that is not empty")


_CHECKS: Mapping[str, Check] = {
    # Some local servers sample above 2, but hosted ones refuse it: a chain may hold both, and its links must agree.
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _whole(1, CHOICES),
    "max_tokens": _old_limit,
    "max_completion_tokens": _limit,
    "seed": _seed,
    "stop": _stop,
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _bias,
    "logprobs": _flag,
    "top_logprobs": _whole(0, _TOP_LOGPROBS),
    "parallel_tool_calls": _flag,
    "stream_options": _stream_options,
    "reasoning_effort": _effort,
    "verbosity": _text,
    "user": _text,
    "service_tier": _text,
    "safety_identifier": _text,
    "prompt_cache_key": _text,
    "store": _flag,
    "modalities": _modalities,
    "audio": _object,
    "prediction": _object,
    "web_search_options": _object,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _choice,
    "functions": _functions,
    "function_call": _function_call,
}

CHAT_FIELDS = frozenset({"model", "messages", "stream", *_CHECKS})
"""The fields of a chat request that are known here."""
