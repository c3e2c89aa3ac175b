"""Items as messages of a chat, and messages as the items that they were."""

from typing import Any

import pytest

from gateway.dialects.response_items import items_of, messages_of
from tests.unit.gateway.dialects.test_responses_request import BARE, CALL, CHAT_CALL, JOB, refusal, user


class TestItems:
    def test_messages_may_say_that_they_are_and_need_not(self) -> None:
        said = [{"role": "developer", "content": "Be brief."}, {"type": "message", "role": "user", "content": "Hello?"}]

        assert messages_of(said) == [{"role": "developer", "content": "Be brief."}, user("Hello?")]

    def test_one_text_is_a_text_and_several_parts_are_a_list(self) -> None:
        text = {"type": "input_text", "text": "What is this?"}
        image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}

        assert messages_of([user([text])]) == [user("What is this?")]
        assert messages_of([user([])]) == [user("")]
        assert messages_of([user([text, image])]) == [
            user(
                [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                ]
            )
        ]

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
        assert messages_of([user([part, part])]) == [user([as_chat, as_chat])]

    def test_calls_belong_to_the_message_before_them(self) -> None:
        said: dict[str, Any] = {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
        other = CALL | {"call_id": "b"}

        assert messages_of([said, CALL, other]) == [
            {"role": "assistant", "content": "I look.", "tool_calls": [CHAT_CALL, CHAT_CALL | {"id": "b"}]}
        ]
        assert messages_of([user("Hello?"), CALL]) == [
            user("Hello?"),
            {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        ]

    def test_a_call_never_changes_what_was_said_before(self) -> None:
        earlier = [{"role": "assistant", "content": "I look."}]

        assert messages_of([CALL], earlier)[0]["tool_calls"] == [CHAT_CALL]
        assert earlier == [{"role": "assistant", "content": "I look."}]

    def test_a_calls_output_is_a_tools_message(self) -> None:
        output: dict[str, Any] = {"type": "function_call_output", "call_id": "a"}

        for said in ("42", [{"type": "input_text", "text": "42"}]):
            assert messages_of([output | {"output": said}]) == [{"role": "tool", "tool_call_id": "a", "content": "42"}]

    def test_reasoning_is_not_sent_back(self) -> None:
        assert messages_of([{"type": "reasoning", "id": "rs_1", "summary": []}, user("Hello?")]) == [user("Hello?")]

    @pytest.mark.parametrize(
        ("item", "param"),
        [
            ({"role": "tool", "content": "x"}, "input[0].role"),
            ({"role": "user"}, "input[0].content"),
            ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
            ({"role": "user", "content": [{"type": "video"}]}, "input[0].content[0].type"),
            ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
            ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0].image_url"),
            ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0].file_data"),
            ({"type": "function_call", "call_id": "a", "name": "f"}, "input[0].arguments"),
            ({"type": "function_call_output", "call_id": "a"}, "input[0].output"),
            ({"type": "function_call_output", "output": "42"}, "input[0].call_id"),
            ({"type": "web_search_call"}, "input[0].type"),
        ],
        ids=str,
    )
    def test_what_a_chat_has_no_word_for_is_refused_by_its_place(self, item: dict[str, Any], param: str) -> None:
        error = refusal(input=[item])

        assert error.param == param
        assert str(error).startswith(f"{param} must be")


class TestInputItems:
    def test_messages_become_the_items_that_they_were(self) -> None:
        image = {"type": "input_image", "image_url": "http://x.test/a.png", "detail": "low"}
        file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"}
        said: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image, file]},
            {"role": "assistant", "content": "I look."},
            CALL,
            {"type": "function_call_output", "call_id": "a", "output": "42"},
        ]

        items = items_of(messages_of(said), JOB)

        assert [item["id"] for item in items] == [
            f"msg_{BARE}_in_0",
            f"msg_{BARE}_in_1",
            f"fc_{BARE}_in_2",
            f"fco_{BARE}_in_3",
        ]
        assert items[0]["content"] == [{"type": "input_text", "text": "What is this?"}, image, file]
        assert items[1]["content"] == [{"type": "output_text", "text": "I look.", "annotations": []}]
        assert items[2] == CALL | {"id": f"fc_{BARE}_in_2", "status": "completed"}
        assert items[3]["output"] == "42"
        assert messages_of(items) == messages_of(said)

    def test_whatever_a_native_job_was_given_can_be_shown(self) -> None:
        odd = [
            user(["no part"]),
            {"role": "assistant", "content": None, "tool_calls": ["none", {"id": "a"}]},
            {"role": "tool", "content": [{"type": "text", "text": "42"}]},
            user([{"type": "image_url", "image_url": {"url": "u"}}]),
        ]

        items = items_of(odd, JOB)

        assert items[0]["content"] == ["no part"]
        assert items[1]["output"] == [{"type": "input_text", "text": "42"}]
        assert items[2]["content"] == [{"type": "input_image", "image_url": "u", "detail": "auto"}]
