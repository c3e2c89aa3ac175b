"""One question, asked in every dialect, and the replies as comparable answers.

`DIALECTS` are all ways in which a caller gets a chat's answer. A `Dialect` also says how much of an answer it can show.
"""

import asyncio
import io
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from gateway.cli import main
from gateway.client import commands
from gateway.client.model.exit_status import ExitStatus
from shared.model.errors import REFUSALS, status_of
from tests.cases.stage import Stage
from tests.support import folded
from tests.support.client import Answer as Reply
from tests.support.folded import RESPONSE_CODES, Answer, Call, Trouble
from tests.support.folded import answer as views

QUESTION = "Hello?"


@dataclass(frozen=True)
class Dialect:
    """A way to ask. `view` reduces an answer to the part that the dialect shows; `code` is its word for a code."""

    name: str
    ask: Callable[..., Awaitable[Answer]]
    view: Callable[[Answer], Answer] = lambda answer: answer
    code: Callable[[str], str | None] = lambda code: code

    def check(self, got: Answer, expected: Answer) -> None:
        """Check an answer. An expected call with an empty id stands for any id that is not empty."""
        assert with_expected_ids(got, expected) == self.view(expected)

    def check_trouble(self, got: Answer, code: str, *words: str) -> None:
        """Check an error: its code, its HTTP status if it has one, and the words of its message."""
        assert got.trouble is not None, got
        assert got.finish is None
        assert [word for word in words if word not in got.trouble.message] == [], got.trouble
        if got.trouble.status is None or got.trouble.code is None:
            assert got.trouble.code == self.code(code), got.trouble
        else:  # an HTTP error is the same in all of OpenAI's dialects
            assert got.trouble.code == code, got.trouble
        assert got.trouble.status in (None, status_of(code)), got.trouble


def with_expected_ids(got: Answer, expected: Answer) -> Answer:
    """Return the answer, with the ids that were made replaced by the empty ids that stand for them."""
    ids = [call.id for call in got.calls]
    if any(ids):
        assert all(ids)
        assert len(set(ids)) == len(ids), ids
    made = [not call.id for call in expected.calls] + [False] * len(got.calls)
    calls = (replace(call, id="") if new else call for call, new in zip(got.calls, made, strict=False))
    return replace(got, calls=tuple(calls))


def _chat_body(model: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": QUESTION}], **fields}


async def _ask_chat(stage: Stage, model: str, **fields: Any) -> Answer:
    reply = await stage.client.post("/v1/chat/completions", _chat_body(model, fields))
    return folded.fold_chat(reply.json()) if reply.status == 200 else folded.fold_error(reply.body, reply.status)


async def _ask_chat_stream(stage: Stage, model: str, **fields: Any) -> Answer:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    reply = await stage.client.post("/v1/chat/completions", _chat_body(model, {**options, **fields}))
    if reply.status != 200:
        return folded.fold_error(reply.body, reply.status)
    return folded.fold_chat_stream(reply.body)


def _text_body(model: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "prompt": QUESTION, **fields}


async def _ask_text(stage: Stage, model: str, **fields: Any) -> Answer:
    reply = await stage.client.post("/v1/completions", _text_body(model, fields))
    return folded.fold_text(reply.json()) if reply.status == 200 else folded.fold_error(reply.body, reply.status)


async def _ask_text_stream(stage: Stage, model: str, **fields: Any) -> Answer:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    reply = await stage.client.post("/v1/completions", _text_body(model, {**options, **fields}))
    if reply.status != 200:
        return folded.fold_error(reply.body, reply.status)
    return folded.fold_text_stream(reply.body)


async def _events(stage: Stage, model: str, **fields: Any) -> bytes:
    """Return the native events of a job."""
    submitted = await stage.client.post("/v1/jobs", _chat_body(model, fields))
    assert submitted.status == 202, submitted.body
    reply = await stage.client.get(submitted.json()["links"]["events"])
    assert reply.status == 200
    return reply.body


async def _ask_native(stage: Stage, model: str, **fields: Any) -> Answer:
    """Return the events, as the log's rules and the command line's transcript both read them."""
    events = await _events(stage, model, **fields)
    answer = folded.fold_native(events)
    assert folded.fold_transcript(events) == views.in_transcripts(answer)
    return answer


async def respond(stage: Stage, model: str, **fields: Any) -> Reply:
    """Return the reply to a request of Responses."""
    return await stage.client.post("/v1/responses", {"model": model, "input": QUESTION, **fields})


async def _ask_response(stage: Stage, model: str, **fields: Any) -> Answer:
    reply = await respond(stage, model, **fields)
    return folded.fold_response(reply.json()) if reply.status == 200 else folded.fold_error(reply.body, reply.status)


async def _ask_response_stream(stage: Stage, model: str, **fields: Any) -> Answer:
    reply = await respond(stage, model, stream=True, **fields)
    if reply.status != 200:
        return folded.fold_error(reply.body, reply.status)
    return folded.fold_response_stream(reply.body)


async def _ask_background(stage: Stage, model: str, **fields: Any) -> Answer:
    reply = await respond(stage, model, background=True, **fields)
    if reply.status != 200:
        return folded.fold_error(reply.body, reply.status)
    begun = reply.json()
    streamed = await stage.client.get(f"/v1/responses/{begun['id']}?stream=true")
    ended = (await stage.client.get(f"/v1/responses/{begun['id']}")).json()
    answer = folded.fold_response(ended)
    assert folded.fold_response_stream(streamed.body) == answer
    return answer


async def converse(stage: Stage, model: str, messages: Sequence[Any], **fields: Any) -> Reply:
    """Return the reply to a page of the AI SDK."""
    return await stage.client.post("/api/chat", {"id": str(uuid4()), "messages": messages, "model": model, **fields})


async def _ask_ui(stage: Stage, model: str, **fields: Any) -> Answer:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}
    reply = await converse(stage, model, [message], **fields)
    if reply.status != 200:
        return folded.failed(Trouble(reply.body.decode(), status=reply.status))
    return folded.fold_ui(reply.body)


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    status: int
    output: str
    errors: str


def submit(model: str) -> Ended:
    """`tailrace submit`, in this process. The environment names the gateway."""
    output, errors = io.BytesIO(), io.BytesIO()
    streams = SimpleNamespace(stdin=None, stdout=io.TextIOWrapper(output), stderr=io.TextIOWrapper(errors))
    with patch.object(commands, "sys", streams):  # the logs of this process go to the real ones
        status = main(["submit", "--model", model, QUESTION])
    return Ended(status, output.getvalue().decode(), errors.getvalue().decode())


async def _ask_submit(stage: Stage, model: str) -> Answer:
    ended = await asyncio.to_thread(submit, model)
    text = ended.output.removesuffix("\n")
    called, cut_off = _CALLED.search(ended.errors), _CUT_OFF.search(ended.errors)
    if not cut_off and ended.status != ExitStatus.COMPLETE and (note := _FAILED.search(ended.errors)):
        assert ended.status == ExitStatus.FAILED, ended
        return Answer(text, finish=None, trouble=Trouble(note[1]), raw=ended)
    is_filtered = cut_off is not None and cut_off[1] == "content_filter"
    assert ended.status == (ExitStatus.FAILED if is_filtered else ExitStatus.COMPLETE), ended
    calls = tuple(Call("", name, "") for name in called[1].split(", ")) if called else ()
    finish = cut_off[1] if cut_off else "tool_calls" if calls else "stop"
    return Answer(text, calls=calls, finish=finish, raw=ended)


_FAILED = re.compile(r"tailrace: (.*)")
_CALLED = re.compile(r"The model calls tools \((.*)\): ")
_CUT_OFF = re.compile(r"The answer was cut off: (\w+)\.")


def _response_code(code: str) -> str:
    """OpenAI's list of a response's error codes is closed, but for two that its own clients know."""
    if code in RESPONSE_CODES:
        return code
    status, retryable = REFUSALS.get(code, (status_of(code), True))
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if retryable or status >= 500 else "invalid_prompt"


def _no_code(code: str) -> None:
    """The dialect shows no code."""


NATIVE = Dialect("native", _ask_native)
CHAT = Dialect("chat", _ask_chat)
CHAT_STREAM = Dialect("chat-stream", _ask_chat_stream)
TEXT = Dialect("text", _ask_text, views.in_completions)
TEXT_STREAM = Dialect("text-stream", _ask_text_stream, views.in_completions)
RESPONSE = Dialect("response", _ask_response, views.without_extra)
RESPONSE_STREAM = Dialect("response-stream", _ask_response_stream, views.without_extra, _response_code)
BACKGROUND = Dialect("background", _ask_background, views.without_extra, _response_code)
UI = Dialect("ui", _ask_ui, views.on_pages, _no_code)
SUBMIT = Dialect("submit", _ask_submit, views.in_pipes, _no_code)

DIALECTS = (NATIVE, CHAT, CHAT_STREAM, TEXT, TEXT_STREAM, RESPONSE, RESPONSE_STREAM, BACKGROUND, UI, SUBMIT)
