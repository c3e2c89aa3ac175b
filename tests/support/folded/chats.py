"""Fold chat completions and legacy completions, by the accumulator and the types of openai-python."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.folded.answer import DONE, Answer, Call, Trouble, counts, failed, payloads


def fold_error(body: bytes, status: int) -> Answer:
    """An error response of OpenAI's dialects."""
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return failed(Trouble(error["message"], error["code"], status), error)


def fold_chat(body: Mapping[str, Any], choice: int = 0) -> Answer:
    """One choice of a whole completion."""
    assert ChatCompletion.model_validate(body, strict=True).to_dict() == body
    return _of_choice(body, choice)


def fold_chat_stream(body: bytes, choice: int = 0) -> Answer:
    """One choice of a stream, by openai-python's accumulator. `raw` has the chunks."""
    *chunks, last = payloads(body)
    if last != DONE:
        chunks.append(last)
    state = ChatCompletionStreamState()
    shown = []
    trouble = None
    for payload in chunks:
        data = json.loads(payload)
        assert trouble is None, "something follows an error"
        if "error" in data:
            trouble = Trouble(data["error"]["message"], data["error"]["code"])
            continue
        shown.append(data)
        state.handle_chunk(ChatCompletionChunk.model_validate(data, strict=True))
    assert (trouble is None) == (last == DONE)
    if not shown:
        assert trouble is not None
        return failed(trouble)
    answer = replace(_of_choice(state.current_completion_snapshot.to_dict(), choice), raw=shown)
    return answer if trouble is None else replace(answer, finish=None, trouble=trouble)


def _of_choice(body: Mapping[str, Any], number: int) -> Answer:
    (choice,) = (each for each in body["choices"] if each["index"] == number)
    message = choice["message"]
    return Answer(
        text=message.get("content") or "",
        reasoning=message.get("reasoning_content") or "",
        refusal=message.get("refusal") or "",
        calls=tuple(_chat_call(call) for call in message.get("tool_calls") or ()),
        finish=choice["finish_reason"],
        usage=counts(body.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens"),
        raw=body,
    )


def _chat_call(call: Mapping[str, Any]) -> Call:
    kind = call["type"]
    given = call[kind]
    extra = {
        name: value for name, value in call.items() if name not in ("id", "type", kind, "index") and value is not None
    }
    arguments = given["arguments"] if kind == "function" else given["input"]
    assert isinstance(arguments, str)
    return Call(call["id"], given["name"], arguments, extra)


# --- Legacy completions


def fold_text(body: Mapping[str, Any], choice: int = 0) -> Answer:
    """One choice of a whole legacy completion."""
    assert body["object"] == "text_completion"
    assert Completion.model_validate({**body, "choices": []}, strict=True).to_dict() == {**body, "choices": []}
    (found,) = (each for each in body["choices"] if each["index"] == choice)
    usage = counts(body["usage"], "prompt_tokens", "completion_tokens", "total_tokens")
    return Answer(found["text"], finish=found["finish_reason"], usage=usage, raw=body)


def fold_text_stream(body: bytes, choice: int = 0) -> Answer:
    """One choice of a stream of legacy completions. `raw` has the chunks."""
    *shown, last = payloads(body)
    if last != DONE:
        shown.append(last)
    chunks = list(map(json.loads, shown))
    errors = [chunk["error"] for chunk in chunks if "error" in chunk]
    assert (last == DONE) == (not errors)
    assert [error for error in chunks[-1:] if "error" in error] == [{"error": error} for error in errors]
    shown_choices = [each for chunk in chunks for each in chunk.get("choices", ()) if each["index"] == choice]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return Answer(
        "".join(each["text"] for each in shown_choices),
        finish=None if errors else shown_choices[-1]["finish_reason"],
        trouble=Trouble(errors[0]["message"], errors[0]["code"]) if errors else None,
        usage=counts(usages[0], "prompt_tokens", "completion_tokens", "total_tokens") if usages else None,
        raw=chunks,
    )
