"""Test the digest of a stream: number, hash and text of the deltas that survive."""

import hashlib
import json
from typing import Any

import pytest

from worker.model.digest import AnswerText, PartialAnswer, StreamDigest


def data(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def answer(*deltas: bytes) -> PartialAnswer:
    collected = PartialAnswer()
    for delta in deltas:
        collected.add(delta)
    return collected


def test_deltas_are_counted_and_hashed_in_their_order() -> None:
    digest = StreamDigest()
    for delta in (b"one", b"two"):
        digest.add(delta)

    assert (digest.deltas, digest.sha256) == (2, hashlib.sha256(b"onetwo").hexdigest())
    assert StreamDigest().sha256 == hashlib.sha256().hexdigest()


def test_a_copy_counts_by_itself() -> None:
    digest = StreamDigest()
    digest.add(b"one")
    copy = digest.continued()
    copy.add(b"two")

    assert (digest.deltas, copy.deltas) == (1, 2)
    assert digest.sha256 == hashlib.sha256(b"one").hexdigest()
    assert copy.sha256 == hashlib.sha256(b"onetwo").hexdigest()


def test_an_answer_collects_its_text() -> None:
    collected = answer(data(content="Hel"), data(content="lo", logprobs={}), data(chunk_extra={"a": 1}))

    assert (collected.deltas, collected.text, collected.spliceable) == (3, "Hello", True)


@pytest.mark.parametrize(
    "other",
    [
        data(reasoning_content="hm"),
        data(tool_calls=[]),
        data(refusal="no"),
        data(content="b", index=1),
        data(content=["b"]),
    ],
)
def test_an_answer_of_more_than_text_cannot_be_continued(other: bytes) -> None:
    collected = answer(data(content="a"), other, data(content="c"))

    assert (collected.deltas, collected.text, collected.spliceable) == (3, "", False)


@pytest.mark.parametrize(
    ("most", "text", "is_too_large"), [(8, "onetwo", False), (6, "onetwo", False), (5, "one", True)]
)
def test_the_text_of_an_answer_is_collected_up_to_a_bound(most: int, text: str, is_too_large: bool) -> None:
    digest, whole = AnswerText(most), StreamDigest()
    deltas = [
        data(content="one"),
        data(content="other", index=1),
        data(reasoning_content="Hm."),
        data(content=[{"type": "text"}]),
        data(content="two", logprobs=None),
    ]
    for delta in deltas:
        digest.add(delta)
        whole.add(delta)

    assert (digest.text, digest.is_too_large) == (text, is_too_large)
    assert (digest.deltas, digest.sha256) == (whole.deltas, whole.sha256)
