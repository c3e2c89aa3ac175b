"""Bodies that a route nearly accepts: a good one, changed at a few places. Not here: addresses and headers."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

TEXTS = (
    *("", " ", "a", "mock", "scripted", "null", "0", "-1", "true", "__proto__", "../../etc/passwd", "%00", "%s%n"),
    *(
        "\x00",
        "\x1b[2J",
        "\u202e",
        "\u2028",
        "\ufffd",
        "🌊",
        "é" * 300,
        "x" * 5_000,
        "job_" + "0" * 26,
        "data: [DONE]\n\n",
    ),
    *("user", "assistant", "tool", "function", "custom", "message", "item_reference", "reasoning", "continue", "high"),
)
NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e308, 2**31, 2**63, -(2**63), 2**64, 10**30, 1e-300, 129, 100_001)
LISTS: tuple[Any, ...] = ([], [[]], [None], [{}], [[[[]]]], [1, "a", None], [0] * 50, ["a"] * 50)
OBJECTS: tuple[Any, ...] = ({}, {"": ""}, {"type": "a"}, {"type": None}, {"id": 1}, {"a": {"b": {"c": []}}})
NAMES = (
    *(
        "",
        "model",
        "messages",
        "input",
        "prompt",
        "metadata",
        "lane",
        "timeout_s",
        "timeout",
        "abandon_after_s",
        "stream",
    ),
    *("on_disconnect", "on_disconect", "on_stream_failure", "kind", "n", "stop", "tools", "tool_choice", "functions"),
    *("background", "store", "previous_response_id", "include", "reasoning", "text", "instructions", "truncation"),
    *("max_tokens", "max_output_tokens", "logit_bias", "logprobs", "top_logprobs", "seed", "response_format", "user"),
    *("stream_options", "dimensions", "encoding_format", "tailrace", "idempotency_key", "webhook", "after", "id"),
    *("stream", "trigger", "messageId", "message", "system", "activeStreamId", "\x00", "x" * 300, "🌊"),
)
_NOT_OBJECTS = (b"", b"null", b"[]", b'"a"', b"{", b"[" * 5_000, b'{"a":' * 500, b"\xff\xfe{}", b"\xef\xbb\xbf{}")


def any_value(rng: Random) -> Any:
    """Any value of JSON."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice((None, True, False))
    pool: tuple[Any, ...] = (TEXTS, LISTS, OBJECTS, TEXTS)[kind - 2]
    return copy.deepcopy(rng.choice(pool))


def changed(body: Any, rng: Random, times: int) -> Any:
    """Return a body with so many changes."""
    body = copy.deepcopy(body)
    for _ in range(times):
        place = rng.choice(_places(body))
        rng.choice(_CHANGES)(place, rng)
    return body


def encoded(body: Any, rng: Random) -> bytes:
    """Return a body as bytes; now and then not quite JSON."""
    raw = json.dumps(body).encode()
    kind = rng.randrange(24)
    if kind == 0:
        cut = rng.randrange(len(raw) + 1)
        return raw[:cut]
    if kind == 1:
        at = rng.randrange(len(raw) + 1)
        return raw[:at] + rng.randbytes(rng.randrange(1, 5)) + raw[at:]
    if kind == 2:
        return rng.choice(
            (b"", b"null", b"[]", b'"a"', b"{", b"[" * 5_000, b'{"a":' * 500, b"\xff\xfe{}", b"\xef\xbb\xbf{}")
        )
    if kind == 3:
        return raw.replace(b'"a"', b'"\\ud83d"').replace(b"1", b"NaN", 1)
    if kind == 4:
        return json.dumps(body, ensure_ascii=False).encode("utf-16")
    return raw


def _places(value: Any) -> list[Any]:
    """Return all objects and lists of a value, the outermost included."""
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            found.append(each)
            waiting += each.values() if isinstance(each, dict) else each
    return found


def _key(place: Any, rng: Random) -> Any:
    return rng.choice([*place]) if isinstance(place, dict) else rng.randrange(len(place))


def _replace(place: Any, rng: Random) -> None:
    if place:
        place[_key(place, rng)] = any_value(rng)


def _remove(place: Any, rng: Random) -> None:
    if place:
        del place[_key(place, rng)]


def _add(place: Any, rng: Random) -> None:
    if isinstance(place, dict):
        place[rng.choice(NAMES)] = any_value(rng)
    else:
        place.insert(rng.randrange(len(place) + 1), any_value(rng))


def _repeat(place: Any, rng: Random) -> None:
    if isinstance(place, list) and len(place) < 1_000:
        place += copy.deepcopy(place) * rng.randrange(1, 4)


def _wrap(place: Any, rng: Random) -> None:
    if place:
        key = _key(place, rng)
        place[key] = rng.choice(([place[key]], {"a": place[key]}))


_CHANGES: tuple[Callable[[Any, Random], None], ...] = (_replace, _replace, _remove, _add, _add, _repeat, _wrap)
