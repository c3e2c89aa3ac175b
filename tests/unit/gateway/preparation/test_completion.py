"""Test the preparation of completions: the spec of a job, and the options of its answer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.dialects.chat.stream import ChatOptions
from gateway.dialects.completions.stream import TextOptions
from gateway.preparation.completion import PreparedCompletion, prepare_chat, prepare_text
from gateway.preparation.request_head import RequestHead
from shared.model.errors import InvalidRequest
from tests.support.heads import JOB, head

MESSAGES = [{"role": "user", "content": "Hello?"}]
FORM = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}


def raw(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def test_a_chat_is_prepared_with_the_options_of_its_answer() -> None:
    prepared = prepare_chat(raw(messages=MESSAGES, functions=[{"name": "f"}], **FORM), head(lane="low"))

    assert prepared.options == ChatOptions(JOB, "m", include_usage=True, choices=2, legacy_functions=True)
    assert (prepared.streaming, prepared.spec.lane, prepared.spec.id) == (True, "low", JOB)


def test_a_text_is_prepared_as_a_chat_with_one_message() -> None:
    prepared = prepare_text(raw(prompt="Hello?", n=2), head())

    assert prepared.options == TextOptions(JOB, "m", choices=2)
    assert not prepared.streaming
    assert json.loads(prepared.spec.request) == {"model": "m", "messages": MESSAGES, "n": 2}


@pytest.mark.parametrize("prepare", [prepare_chat, prepare_text])
@pytest.mark.parametrize("bad", [b"[", raw(stream=1), raw()])
def test_a_bad_request_is_refused(prepare: Callable[[bytes, RequestHead], PreparedCompletion[Any]], bad: bytes) -> None:
    with pytest.raises(InvalidRequest):
        prepare(bad, head())
