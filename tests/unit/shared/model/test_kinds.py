"""Test the registry of job kinds: each entry stands under its own name, and an unknown kind promises nothing."""

import pytest

from shared.model.kinds import CHAT, EMBEDDINGS, KINDS, has_result, streams_text


def test_each_kind_is_found_by_its_name() -> None:
    assert [spec.name for spec in KINDS.values()] == list(KINDS) == ["chat", "embeddings"]


@pytest.mark.parametrize(
    ("kind", "text", "result"), [(CHAT, True, False), (EMBEDDINGS, False, True), ("of a newer version", False, False)]
)
def test_a_kind_says_where_its_answer_lies(kind: str, text: bool, result: bool) -> None:
    assert (streams_text(kind), has_result(kind)) == (text, result)
