"""Test the kinds that a gateway admits: the facts of each, and those of a kind that only a newer version knows."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.specs.kinds import ADMITTED_KINDS, KindAdmission
from shared.model.errors import InvalidRequest, StartupError
from shared.model.kinds import CHAT, CHAT_KIND, EMBEDDINGS, KindSpec, ResultForm


def test_chats_and_embeddings_are_admitted() -> None:
    assert list(ADMITTED_KINDS) == [CHAT, EMBEDDINGS]


@pytest.mark.parametrize(
    ("kind", "text", "result"),
    [
        (CHAT, True, ResultForm.EVENTS),
        (EMBEDDINGS, False, ResultForm.VECTORS),
        ("of a newer version", False, ResultForm.EVENTS),
    ],
)
def test_a_kind_has_its_answer_in_one_place(kind: str, text: bool, result: ResultForm) -> None:
    assert (ADMITTED_KINDS.streams_text(kind), ADMITTED_KINDS.result_form(kind)) == (text, result)


def read(body: Mapping[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    return {"body": body, **request}


def test_a_call_of_a_dialect_is_read_as_a_job_is_if_its_kind_has_no_reader_for_calls() -> None:
    assert KindAdmission(CHAT_KIND, read).read({"a": 1}) == {"body": {"a": 1}, "a": 1}


def test_only_the_call_of_a_dialect_may_name_the_encoding_of_vectors() -> None:
    embeddings, asked = ADMITTED_KINDS[EMBEDDINGS], {"model": "m", "input": "a", "encoding_format": "base64"}

    assert embeddings.read(asked) == {"model": "m", "input": ["a"]}
    with pytest.raises(InvalidRequest, match="encoding_format is chosen when the result is read"):
        embeddings.read_input(asked, dict(asked))


def test_a_reader_that_another_process_could_not_call_is_refused_by_its_kind() -> None:
    with pytest.raises(StartupError, match=r"^The kind chat must read its input with a function of a module"):
        KindAdmission(CHAT_KIND, lambda _, request: request)
    with pytest.raises(StartupError, match=r"^The kind chat must read its input with a function of a module"):
        KindAdmission(CHAT_KIND, read, lambda request: request)


def test_a_kind_declares_that_it_calls_no_provider_and_an_unknown_one_may_call_one() -> None:
    alone = KindSpec("alone", ResultForm.VALUE, streams_text=False, calls_provider=False)
    kinds = ADMITTED_KINDS.adding(KindAdmission(alone, read))

    assert [kinds.calls_provider(kind) for kind in (CHAT, "alone", "of a newer version")] == [True, False, True]
