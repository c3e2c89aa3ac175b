"""Test the parts of an item's content in a chat, and back."""

from typing import Any

import pytest

from gateway.dialects.responses.parts import content_of, joined, parts_of
from shared.model.errors import InvalidRequest

TEXT = {"type": "input_text", "text": "What is this?"}
CHAT_TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}


class TestContent:
    def test_one_text_is_a_text_and_several_parts_are_a_list(self) -> None:
        assert content_of("What is this?", "x") == "What is this?"
        assert content_of([TEXT], "x") == "What is this?"
        assert content_of([], "x") == ""
        assert content_of([TEXT, IMAGE], "x") == [CHAT_TEXT, CHAT_IMAGE]

    @pytest.mark.parametrize(
        ("part", "as_chat"),
        [
            ({"type": "output_text", "text": "a", "annotations": []}, {"type": "text", "text": "a"}),
            ({"type": "refusal", "refusal": "No."}, {"type": "refusal", "refusal": "No."}),
            (
                {"type": "input_image", "image_url": "http://x.test/a.png"},
                {"type": "image_url", "image_url": {"url": "http://x.test/a.png"}},
            ),
            (
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,"}},
            ),
            (
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            ),
        ],
        ids=lambda part: str(part["type"]),
    )
    def test_each_part_has_its_word_in_a_chat(self, part: dict[str, Any], as_chat: dict[str, Any]) -> None:
        assert content_of([part, part], "x") == [as_chat, as_chat]

    @pytest.mark.parametrize(
        ("part", "param"),
        [
            ("x", "content[0]"),
            ({"type": "video"}, "content[0].type"),
            ({"type": "input_text"}, "content[0].text"),
            ({"type": "refusal"}, "content[0].refusal"),
            ({"type": "input_image", "file_id": "f"}, "content[0].image_url"),
            ({"type": "input_file", "file_id": "f"}, "content[0].file_data"),
            ({"type": "input_audio"}, "content[0].input_audio"),
        ],
        ids=str,
    )
    def test_a_part_that_a_chat_can_not_hold_is_refused_by_its_place(self, part: Any, param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            content_of([part], "content")

        assert caught.value.param == param
        assert str(caught.value).startswith(f"{param} must be")


class TestJoining:
    @pytest.mark.parametrize(
        ("first", "second", "both"),
        [
            (None, "a", "a"),
            (None, "", None),
            ("a", "", "a"),
            ("a", "\n", "a\n"),
            ("What is this?", [CHAT_IMAGE], [CHAT_TEXT, CHAT_IMAGE]),
            ([CHAT_IMAGE], "What is this?", [CHAT_IMAGE, CHAT_TEXT]),
            ("", "", ""),
        ],
        ids=str,
    )
    def test_two_contents_become_one(self, first: Any, second: Any, both: Any) -> None:
        assert joined([first, second]) == both


class TestShowing:
    def test_content_is_shown_as_the_parts_that_it_was(self) -> None:
        file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"}

        assert parts_of("Hi", "output_text") == [{"type": "output_text", "text": "Hi", "annotations": []}]
        assert parts_of(content_of([TEXT, IMAGE, file], "x"), "input_text") == [TEXT, IMAGE, file]
        assert parts_of([{"type": "image_url", "image_url": {"url": "u"}}, "odd"], "input_text") == [
            {"type": "input_image", "image_url": "u", "detail": "auto"},
            "odd",
        ]
        assert parts_of(None, "input_text") == []
