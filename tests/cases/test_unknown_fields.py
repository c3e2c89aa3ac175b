"""Send an upstream the fields that chat completions knows, and no fields that mean something else here."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cases.dialects import Dialect, respond
from tests.cases.everywhere import in_responses
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import Raw, as_json, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

KNOWN = {"model", "messages", "stream", "stream_options"}
IGNORED: dict[str, Any] = {
    "client_metadata": {"a": "b", "x-codex-installation-id": "1"},
    "access_programs": ["beta"],
    "image": {"size": "1024x1024"},
    "prompt_cache_options": {"mode": "implicit"},
    "include": ["reasoning.encrypted_content"],
    "a_field_that_nobody_knows": {"deep": [1]},
}


def strict(body: Mapping[str, Any]) -> Raw:
    """Return an upstream that refuses each field that it doesn't know."""
    if unknown := sorted(body.keys() - KNOWN):
        message = f"Unrecognized request argument supplied: {', '.join(unknown)}"
        return as_json({"error": {"message": message, "type": "invalid_request_error", "param": None}}, 400)
    return said({"content": "Hello"})


@pytest.mark.parametrize("name", IGNORED)
@in_responses
async def test_a_field_of_responses_that_chat_does_not_know_stays_here(
    stage: Stage, dialect: Dialect, model: str, name: str
) -> None:
    stage.upstream.play(model, strict)

    got = await dialect.ask(stage, model, **{name: IGNORED[name]})

    dialect.check(got, Answer("Hello"))
    (body,) = stage.upstream.asked(model)
    assert body.keys() == KNOWN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context_management", [{"type": "compaction", "compact_threshold": 1000}]),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("background_options", {"completion_window": "soonest"}),
    ],
)
async def test_a_field_that_changes_the_meaning_is_refused_by_name_or_stays_here(
    stage: Stage, model: str, name: str, value: Any
) -> None:
    stage.upstream.play(model, strict)

    reply = await respond(stage, model, **{name: value})

    if reply.status == 400:
        assert reply.json()["error"]["param"].startswith(name)
        assert stage.upstream.asked(model) == []
    else:
        assert reply.status == 200, reply.body


async def test_fields_that_chat_knows_reach_the_upstream(stage: Stage, model: str) -> None:
    stage.upstream.play(model, said({"content": "Hello"}))
    fields = {"temperature": 0.5, "top_p": 0.9, "prompt_cache_key": "k", "safety_identifier": "s", "user": "u"}
    translated = {"max_output_tokens": 99, "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}

    reply = await respond(stage, model, **fields, **translated)

    assert reply.status == 200
    (body,) = stage.upstream.asked(model)
    known = {**fields, "max_completion_tokens": 99, "reasoning_effort": "low", "verbosity": "low"}
    assert {name: value for name, value in body.items() if name not in KNOWN} == known


async def test_an_unknown_field_of_a_chat_goes_up(stage: Stage, model: str) -> None:
    stage.upstream.play(model, said({"content": "Hello"}))
    fields = {"top_k": 40, "guided_json": {"type": "object"}, "chat_template_kwargs": {"enable_thinking": False}}
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], **fields}

    for target, status in (("/v1/chat/completions", 200), ("/v1/jobs", 202)):
        assert (await stage.client.post(target, body)).status == status
    await stage.client.get((await stage.client.post("/v1/jobs", body)).json()["links"]["events"])

    for asked in stage.upstream.asked(model):
        assert {name: asked[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("on_disconect", "on_disconnect"), ("timeout", "timeout_s"), ("abandon_after", "abandon_after_s")],
)
async def test_a_near_miss_of_our_own_fields_is_refused_with_the_right_spelling(
    stage: Stage, model: str, wrong: str, right: str
) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], wrong: 5}

    reply = await stage.client.post("/v1/jobs", body)

    assert reply.status == 400, reply.body
    assert right in reply.json()["detail"]
