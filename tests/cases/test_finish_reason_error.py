"""A finish reason that says that something went wrong is a failed attempt, never a success."""

import pytest

from tests.cases.dialects import SUBMIT, Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import OTHER, Raw, as_json, chunk, completion, events, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

REASON = "Provider returned error"
ERROR = {"code": 502, "message": REASON}


def _failed(delta: object, finish: str | None = "error", error: object = ERROR) -> dict[str, object]:
    (choice,) = chunk(delta, finish)["choices"]
    return {"id": "x", "object": "chat.completion.chunk", "choices": [{**choice, "error": error}]}


def _failed_whole(finish: str | None = "error") -> dict[str, object]:
    whole = completion({"role": "assistant", "content": ""}, "error")
    return {**whole, "choices": [{**whole["choices"][0], "finish_reason": finish, "error": ERROR}]}


FAILURES: dict[str, tuple[Raw, str, str]] = {
    "OpenRouter's event": (events(_failed({"content": ""})), "server_error", REASON),
    "OpenRouter's event after words": (
        events(chunk({"content": "Hel"}), _failed({"content": ""})),
        "server_error",
        REASON,
    ),
    "OpenRouter's JSON": (as_json(_failed_whole()), "server_error", REASON),
    "a choice's error with a finish reason of its own": (
        events(_failed({"content": "Hel"}, "stop")),
        "server_error",
        REASON,
    ),
    "a choice's error without a finish reason": (events(_failed({}, None)), "server_error", REASON),
    "a choice's error with the code of a refusal": (
        events(_failed({}, "error", {"code": 400, "message": "Not this prompt."})),
        "invalid_request",
        "Not this prompt.",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
@in_every_dialect
async def test_it_is_a_failure_with_its_reason(stage: Stage, dialect: Dialect, once: str, name: str) -> None:
    answer, code, message = FAILURES[name]
    stage.upstream.play(once, answer)

    got = await dialect.ask(stage, once)

    dialect.check_trouble(got, code, message)


BARE: dict[str, Raw] = {
    "error": said({"content": "Hel"}, finish="error"),
    "abort": said({"content": "Hel"}, finish="abort"),
    "error without words": said(finish="error"),
    "error as JSON": as_json(completion({"content": "Hel"}, "error")),
}


@pytest.mark.parametrize("name", BARE)
@in_every_dialect
async def test_the_bare_word_is_a_failure_too(stage: Stage, dialect: Dialect, once: str, name: str) -> None:
    stage.upstream.play(once, BARE[name])

    got = await dialect.ask(stage, once)

    assert got.trouble is not None, got
    assert got.finish is None
    assert name.split()[0] in got.trouble.message


# After words have been shown, a dialect that can't take them back ends with an error: see test_chains.py.
@pytest.mark.parametrize(
    "name", ["OpenRouter's event", "OpenRouter's JSON", "a choice's error without a finish reason"]
)
@in_every_dialect
async def test_the_chains_next_link_answers(stage: Stage, dialect: Dialect, chain: str, name: str) -> None:
    answer, _, _ = FAILURES[name]
    stage.upstream.play(chain, answer)
    stage.upstream.play(chain, said({"content": "Hello"}), provider=OTHER)

    got = await dialect.ask(stage, chain)

    dialect.check(got, Answer("Hello"))
    assert (len(stage.upstream.asked(chain)), len(stage.upstream.asked(chain, OTHER))) == (1, 1)


async def test_an_error_is_asked_again_and_the_second_answer_counts(stage: Stage, model: str) -> None:
    stage.upstream.play(model, events(_failed({"content": ""})), said({"content": "Hello"}))

    got = await SUBMIT.ask(stage, model)

    SUBMIT.check(got, Answer("Hello"))
    assert len(stage.upstream.asked(model)) == 2


@pytest.mark.parametrize(("finish", "status"), [("error", 1), ("stop", 0)])
async def test_the_command_lines_exit_status(stage: Stage, once: str, finish: str, status: int) -> None:
    stage.upstream.play(once, said({"content": "Hel"}, finish=finish))

    got = await SUBMIT.ask(stage, once)

    assert got.raw.status == status


@pytest.mark.parametrize(
    ("finish", "shown"),
    [
        ("eos", "stop"),
        ("stop_sequence", "stop"),
        ("model_length", "length"),
        ("max_tokens", "length"),
        ("a_new_one", "a_new_one"),
    ],
)
async def test_another_word_for_a_good_end_is_shown_as_openais_or_as_it_came(
    stage: Stage, model: str, finish: str, shown: str
) -> None:
    stage.upstream.play(model, said({"content": "Hello"}, finish=finish))
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}

    reply = await stage.client.post("/v1/chat/completions", body)

    (choice,) = reply.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", shown)
