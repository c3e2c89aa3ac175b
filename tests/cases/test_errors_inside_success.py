"""An upstream's error inside a 200 is an error with its reason, asked as often as its kind deserves."""

from typing import Any

import pytest

from tests.cases.dialects import CHAT, NATIVE, Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.client import Client
from tests.support.folded import Answer, fold_chat, fold_error
from tests.support.raw_upstream import OTHER, Body, Raw, as_json, chunk, event, events, said, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERFLOW = "maximum context length is 4096"
VLLM = {"object": "error", "message": OVERFLOW, "type": "BadRequestError", "code": 400}

REFUSALS: dict[str, tuple[Raw, str, str]] = {
    "vllm's in an event": (events(VLLM), "context_length_exceeded", OVERFLOW),
    "vllm's as JSON": (as_json(VLLM), "context_length_exceeded", OVERFLOW),
    "vllm's without words that are known": (
        events({**VLLM, "message": "temperature must be non-negative"}),
        "invalid_request",
        "temperature must be non-negative",
    ),
    "vllm's code as text": (events({**VLLM, "message": "No.", "code": "400"}), "invalid_request", "No."),
    "an event named error": (
        sent(b"event: error\n" + event({"message": "The prompt is not allowed here.", "code": 400})),
        "invalid_request",
        "The prompt is not allowed here.",
    ),
    "an event named error that has an error": (
        sent(b"event: error\n" + event({"error": {"message": "Not that.", "type": "invalid_request_error"}})),
        "invalid_request",
        "Not that.",
    ),
    "an event named error after words": (
        sent(event(chunk({"content": "Hel"})), b"event: error\n" + event({"message": "Stop here.", "code": 400})),
        "invalid_request",
        "Stop here.",
    ),
    "a code word in an event": (
        events({"code": "InvalidParameter", "message": "top_p must be in (0, 1]"}),
        "invalid_request",
        "top_p must be in (0, 1]",
    ),
    "a code word as JSON": (
        as_json({"code": "InvalidParameter", "message": "top_p must be in (0, 1]", "request_id": "r1"}),
        "invalid_request",
        "top_p must be in (0, 1]",
    ),
    "error_type and error_message": (
        events({"choices": None, "error_type": "invalid_request_error", "error_message": "The input is empty."}),
        "invalid_request",
        "The input is empty.",
    ),
    "error_type and error_message as JSON": (
        as_json({"choices": None, "error_type": "invalid_request_error", "error_message": "The input is empty."}),
        "invalid_request",
        "The input is empty.",
    ),
    "an error in OpenAI's form as JSON": (
        as_json({"error": {"message": "No such model: m", "type": "invalid_request_error", "code": "model_not_found"}}),
        "model_not_found",
        "No such model: m",
    ),
    "a chunk with an error after words": (
        events(chunk({"content": "Hel"}), {**VLLM, "message": "Too much."}),
        "invalid_request",
        "Too much.",
    ),
    "a chunk with an error of overflow after words": (
        events(chunk({"content": "Hel"}), VLLM),
        "context_length_exceeded",
        OVERFLOW,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
@in_every_dialect
async def test_a_refusal_has_its_reason_and_is_asked_once(
    stage: Stage, dialect: Dialect, model: str, name: str
) -> None:
    answer, code, message = REFUSALS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check_trouble(got, code, message)
    assert len(stage.upstream.asked(model)) == 1


UNSORTED: dict[str, Raw] = {
    "a detail": events({"detail": "Something is off."}),
    "a detail as JSON": as_json({"detail": "Something is off."}),
    "FastAPI's details": events({"detail": [{"loc": ["body", "x"], "msg": "Something is off.", "type": "extra"}]}),
    "a message alone": events({"message": "Something is off."}),
    "an error that is a text": events({"error": "Something is off."}),
    "error_message alone": events({"choices": None, "error_message": "Something is off."}),
}


@pytest.mark.parametrize("name", UNSORTED)
@in_every_dialect
async def test_an_error_of_no_known_kind_has_its_reason(stage: Stage, dialect: Dialect, once: str, name: str) -> None:
    stage.upstream.play(once, UNSORTED[name])

    got = await dialect.ask(stage, once)

    assert got.trouble is not None
    assert "Something is off." in got.trouble.message
    assert got.finish is None
    assert got.trouble.code not in ("provider_truncated", "provider_garbage")


PASSING: dict[str, tuple[Raw, str, str]] = {
    "vllm's": (
        events({"object": "error", "message": "Internal failure.", "type": "InternalServerError", "code": 500}),
        "server_error",
        "it failed",
    ),
    "an overload": (
        as_json({"object": "error", "message": "The server is busy.", "code": 503}),
        "provider_overloaded",
        "it is overloaded",
    ),
    "a rate limit": (
        sent(b"event: error\n" + event({"message": "Slow down.", "code": 429})),
        "rate_limit_exceeded",
        "Slow down.",
    ),
}


@pytest.mark.parametrize("name", PASSING)
@in_every_dialect
async def test_a_passing_error_has_a_fixed_reason_and_may_be_retried(
    stage: Stage, dialect: Dialect, once: str, name: str
) -> None:
    answer, code, message = PASSING[name]
    stage.upstream.play(once, answer)

    got = await dialect.ask(stage, once)

    dialect.check_trouble(got, code, message)


@pytest.mark.parametrize("name", PASSING)
@in_every_dialect
async def test_the_next_link_answers_after_a_transient_error(
    stage: Stage, dialect: Dialect, chain: str, name: str
) -> None:
    stage.upstream.play(chain, PASSING[name][0])
    stage.upstream.play(chain, said({"content": "Hello"}), provider=OTHER)

    got = await dialect.ask(stage, chain)

    dialect.check(got, Answer("Hello"))
    assert (len(stage.upstream.asked(chain)), len(stage.upstream.asked(chain, OTHER))) == (1, 1)


def _long_prompts_fail(answer: Raw) -> Any:
    def play(body: Body) -> Raw:
        return answer if "long" in body["messages"][-1]["content"] else said({"content": "Hello"})

    return play


@pytest.mark.parametrize("name", [name for name, (_, code, _) in REFUSALS.items() if code != "model_not_found"])
async def test_one_tenants_refused_prompts_do_not_take_the_model_from_another(
    stage: Stage, model: str, name: str
) -> None:
    answer, code, _ = REFUSALS[name]
    stage.upstream.play(model, _long_prompts_fail(answer))
    bob = stage.client.as_("sk-bob")

    async def ask(client: Client, text: str) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        reply = await client.post("/v1/chat/completions", body)
        return fold_chat(reply.json()) if reply.status == 200 else fold_error(reply.body, reply.status)

    refused = [await ask(stage.client, "long") for _ in range(12)]

    assert [each.trouble.code for each in refused if each.trouble] == [code] * 12
    assert len(stage.upstream.asked(model)) == 12
    CHAT.check(await ask(bob, "short"), Answer("Hello"))


SILENT: dict[str, Raw] = {
    "nothing": sent(),
    "[DONE] alone": events(),
    "words and no finish reason": events(chunk({"content": "Hel"})),
    "words, no finish reason and no [DONE]": events(chunk({"content": "Hel"}), done=False),
}


@pytest.mark.parametrize("name", SILENT)
@in_every_dialect
async def test_an_end_that_explains_nothing_is_never_a_success(
    stage: Stage, dialect: Dialect, once: str, name: str
) -> None:
    stage.upstream.play(once, SILENT[name])

    got = await dialect.ask(stage, once)

    dialect.check_trouble(got, "provider_truncated")
    assert got.trouble is not None
    assert got.trouble.message.count("finish reason") == 1


async def test_the_job_shows_the_refusals_reason(stage: Stage, model: str) -> None:
    stage.upstream.play(model, events(VLLM))

    got = await NATIVE.ask(stage, model)

    assert got.raw.end["error"]["retryable"] is False
    assert [event.type.value for event in got.raw.events] == ["queued", "started", "failed"]
