"""A refusal's reason is shown, in each form that upstreams use, and an overflow of the context is recognised."""

import asyncio

import pytest

from tests.cases.dialects import Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.client import TIMEOUT_S
from tests.support.folded import Answer
from tests.support.raw_upstream import OTHER, Raw, as_json, said, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSALS: dict[str, tuple[Raw, str, str]] = {
    "Gemini's list": (
        as_json([{"error": {"code": 400, "message": 'Unknown name "foo"', "status": "INVALID_ARGUMENT"}}], 400),
        "invalid_request",
        'Unknown name "foo"',
    ),
    "Gemini's list of a model that there is not": (
        as_json([{"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}}], 404),
        "model_not_found",
        "models/x is not found",
    ),
    "FastAPI's details": (
        as_json({"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}, 422),
        "invalid_request",
        "Extra inputs are not permitted",
    ),
    "FastAPI's detail as a text": (as_json({"detail": "No such thing."}, 422), "invalid_request", "No such thing."),
    "Mistral's message with details": (
        as_json(
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]},
                "type": "invalid_request_error",
                "code": None,
            },
            422,
        ),
        "invalid_request",
        "Extra inputs are not permitted",
    ),
    "a message alone": (as_json({"message": "That is not possible."}, 400), "invalid_request", "That is not possible."),
    "vLLM's flat error": (
        as_json(
            {"object": "error", "message": "n must be 1", "type": "BadRequestError", "param": None, "code": 400}, 400
        ),
        "invalid_request",
        "n must be 1",
    ),
    "an error that is a text": (
        as_json({"error": "That is not possible."}, 400),
        "invalid_request",
        "That is not possible.",
    ),
    "JSON that says that it is a text": (
        sent(b'{"error":{"message":"No such luck."}}', media_type="text/plain", status=400),
        "invalid_request",
        "No such luck.",
    ),
}

VLLM = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, "
    "1000 in the completion). Please reduce the length of the messages or completion."
)
SGLANG = "The input (5000 tokens) is longer than the model's context length (4096 tokens)."
OVERFLOWS: dict[str, tuple[Raw, str]] = {
    "vLLM's": (as_json({"error": {"message": VLLM, "type": "BadRequestError", "code": 400}}, 400), "4096 tokens"),
    "vLLM's flat one": (
        as_json({"object": "error", "message": VLLM, "type": "BadRequestError", "code": 400}, 400),
        "4096 tokens",
    ),
    "SGLang's": (
        as_json({"object": "error", "message": SGLANG, "type": "BadRequest", "param": None, "code": 400}, 400),
        "is longer than the model's context length",
    ),
    "OpenAI's": (
        as_json(
            {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}}, 400
        ),
        "Too long.",
    ),
    "llama.cpp's": (
        as_json(
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size",
                    "type": "exceed_context_size_error",
                }
            },
            400,
        ),
        "exceeds the available context size",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
@in_every_dialect
async def test_the_reason_is_shown(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    answer, code, message = REFUSALS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check_trouble(got, code, message)
    assert len(stage.upstream.asked(model)) == 1


@pytest.mark.parametrize("name", OVERFLOWS)
@in_every_dialect
async def test_an_overflow_of_the_context_is_recognised(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    answer, message = OVERFLOWS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check_trouble(got, "context_length_exceeded", message)
    assert len(stage.upstream.asked(model)) == 1


@pytest.mark.parametrize("name", OVERFLOWS)
@in_every_dialect
async def test_the_next_link_is_called_after_an_overflow(stage: Stage, dialect: Dialect, chain: str, name: str) -> None:
    stage.upstream.play(chain, OVERFLOWS[name][0])
    stage.upstream.play(chain, said({"content": "Hello"}), provider=OTHER)

    got = await dialect.ask(stage, chain)

    dialect.check(got, Answer("Hello"))
    assert (len(stage.upstream.asked(chain)), len(stage.upstream.asked(chain, OTHER))) == (1, 1)


async def dead_letters(stage: Stage, model: str) -> list[str]:
    """Return the codes of a model's dead letters."""
    reply = await stage.client.as_("sk-root").get(f"/v1/dead-letters?model={model}")
    assert reply.status == 200
    return [letter["error"]["code"] for letter in reply.json()["data"]]


@in_every_dialect
async def test_refusals_of_a_request_are_not_dead_letters(stage: Stage, dialect: Dialect, once: str) -> None:
    for answer in (REFUSALS["Gemini's list"][0], OVERFLOWS["vLLM's"][0]):
        stage.upstream.play(once, answer)
        assert (await dialect.ask(stage, once)).trouble
    stage.upstream.play(once, as_json({"error": {"message": "A failure."}}, 500))
    assert (await dialect.ask(stage, once)).trouble

    async with asyncio.timeout(TIMEOUT_S):  # a dead letter is written after the job's end
        while not (found := await dead_letters(stage, once)):
            pass
    assert found == ["server_error"]
