"""Test the request of `useChat`, as the turns of a conversation."""

from typing import Any

import pytest

from gateway.dialects.ai_sdk.request import MAX_ID, Turn, UiRequest, read_chat_id, read_ui_request
from shared.model.errors import InvalidRequest

JOB = "job_01hf7yat000000000000000005"
HELLO = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}
USER = {"role": "user", "content": "Hello?"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "state": "done"}


def thought(words: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": words, "state": "done"}


def message(role: str, *parts: Any, id_: str = "m1") -> dict[str, Any]:
    return {"id": id_, "role": role, "parts": list(parts)}


def tool(state: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-look", "toolCallId": "c1", "state": state, "input": {"a": 1}, **more}


def read(*messages: Any, **fields: Any) -> UiRequest:
    return read_ui_request({"id": "chat", "messages": list(messages), "trigger": "submit-message", **fields})


def said(*messages: Any) -> list[Any]:
    return [each for turn in read(*messages).turns for each in turn.messages]


def refused(body: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_ui_request(body)
    assert str(caught.value).endswith(".")
    return caught.value


class TestBody:
    def test_the_whole_history_comes_as_the_default_transport_sends_it(self) -> None:
        asked = read(HELLO, message("assistant", text("Hi.")), HELLO | {"id": "u2"}, anything={"else": 1})

        assert (asked.chat_id, asked.whole, asked.continues, asked.cut) == ("chat", True, None, None)
        assert [turn.id for turn in asked.turns] == ["u1", "m1", "u2"]
        assert asked.message_id(JOB) == "msg_01hf7yat000000000000000005"

    def test_a_body_may_hold_only_the_new_message(self) -> None:
        asked = read_ui_request({"id": "chat", "message": HELLO})

        assert not asked.whole
        assert asked.turns == [Turn("u1", [USER])]

    def test_an_answer_to_tools_that_the_page_has_called_belongs_to_the_message_that_called_them(self) -> None:
        asked = read(HELLO, message("assistant", tool("output-available", output="x"), id_="a1"))

        assert asked.message_id(JOB) == asked.continues == "a1"

    def test_a_message_without_an_id_can_not_be_continued(self) -> None:
        assert read(HELLO, message("assistant", text("Hi."), id_="")).continues is None

    def test_a_regenerated_message_is_a_new_one(self) -> None:
        last = message("assistant", text("Hi."), id_="a0")
        asked = read(HELLO, last, trigger="regenerate-message", messageId="a1")

        assert (asked.continues, asked.cut) == (None, "a1")

    def test_an_apps_choices_are_passed_on_and_its_own_fields_are_not(self) -> None:
        chosen = {"model": "fast", "temperature": 0.5, "tools": [{"type": "function"}], "seed": 0}
        asked = read(HELLO, **chosen, max_tokens=None, userId="x", stream=True, n=3)

        assert asked.parameters == chosen

    @pytest.mark.parametrize(("given", "system"), [("Be brief.", "Be brief."), ("", None), (None, None)])
    def test_an_app_may_send_a_system_message(self, given: str | None, system: str | None) -> None:
        assert read(HELLO, system=given).system == system

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"id": None}, "id"),
            ({"id": ""}, "id"),
            ({"id": "x" * (MAX_ID + 1)}, "id"),
            ({"id": 5}, "id"),
            ({"messages": []}, "messages"),
            ({"messages": "Hello?"}, "messages"),
            ({"messages": [None]}, "messages[0]"),
            ({"messages": [{"role": "tool", "parts": []}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].parts"),
            ({"messages": [HELLO | {"id": 5}]}, "messages[0].id"),
            ({"messages": [HELLO | {"id": "x" * (MAX_ID + 1)}]}, "messages[0].id"),
            ({"messages": [message("assistant", {"type": "reasoning"})]}, "messages[0].parts[0].text"),
            ({"messages": [message("user")]}, "messages[0].parts"),
            ({"messages": [message("user", text(""))]}, "messages[0].parts"),
            ({"messages": [message("system", {"type": "step-start"})]}, "messages[0].parts"),
            ({"messages": [message("user", None)]}, "messages[0].parts[0]"),
            ({"messages": [message("user", {"text": "x"})]}, "messages[0].parts[0]"),
            ({"messages": [message("user", {"type": "hologram"})]}, "messages[0].parts[0].type"),
            ({"messages": [message("user", {"type": "text"})]}, "messages[0].parts[0].text"),
            ({"messages": [message("user", {"type": "file", "url": "x"})]}, "messages[0].parts[0].mediaType"),
            ({"messages": [message("assistant", {"type": "tool-x"})]}, "messages[0].parts[0].toolCallId"),
            ({"messages": [message("assistant", {"type": "dynamic-tool"})]}, "messages[0].parts[0].toolName"),
            ({"trigger": "resume-stream"}, "trigger"),
            ({"messageId": 5}, "messageId"),
            ({"system": ["Be brief."]}, "system"),
        ],
    )
    def test_the_error_names_the_wrong_field(self, changes: dict[str, Any], param: str) -> None:
        assert refused({"id": "chat", "messages": [HELLO]} | changes).param == param

    def test_the_error_for_a_body_without_messages_names_both_forms(self) -> None:
        assert "message holds its new part" in str(refused({"id": "chat"}))

    @pytest.mark.parametrize("text", ["a/b c", "東京", "🌊", "a\nb", "\x00", "{}", "x" * MAX_ID])
    def test_an_id_is_any_text(self, text: str) -> None:
        asked = read(HELLO | {"id": text}, id=text, messageId=text, trigger="regenerate-message")

        assert (asked.chat_id, asked.turns[0].id, asked.cut) == (text, text, text)
        assert read_chat_id(text) == text


class TestMessages:
    def test_texts_are_joined(self) -> None:
        assert said(message("user", text("Hel"), text("lo"))) == [{"role": "user", "content": "Hello"}]
        assert said(message("system", text("Be "), text("brief."))) == [{"role": "system", "content": "Be brief."}]

    def test_a_message_may_be_a_bare_text(self) -> None:
        assert said({"role": "user", "content": "Hello?"}) == [USER]

    def test_an_image_is_an_image(self) -> None:
        part = {"type": "file", "mediaType": "image/png", "url": "https://example.test/a.png"}

        assert said(message("user", part, text("What is it?"))) == [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}},
                    {"type": "text", "text": "What is it?"},
                ],
            }
        ]

    @pytest.mark.parametrize("named", [{}, {"filename": "a.pdf"}])
    def test_any_other_file_is_given_as_it_is(self, named: dict[str, str]) -> None:
        part = {"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,eA==", **named}

        assert said(message("user", part))[0]["content"] == [
            {"type": "file", "file": {**named, "file_data": "data:application/pdf;base64,eA=="}}
        ]

    def test_a_file_that_a_model_can_not_be_given_is_refused(self) -> None:
        part = {"type": "file", "mediaType": "application/pdf", "url": "https://example.test/a.pdf"}

        assert refused({"id": "chat", "messages": [message("user", part)]}).param == "messages[0].parts"

    def test_parts_that_only_a_page_shows_are_left_out(self) -> None:
        silent = [{"type": "source-url", "sourceId": "s", "url": "u"}, {"type": "data-weather", "data": {}}]

        assert said(message("assistant", {"type": "step-start"}, *silent, text("Yes."))) == [
            {"role": "assistant", "content": "Yes."}
        ]

    def test_parts_that_a_user_cannot_send_are_passed_over(self) -> None:
        assert said(message("user", tool("output-available"), thought("Hm."), text("Hello?"))) == [USER]

    def test_a_message_cut_off_before_its_first_word_is_left_out(self) -> None:
        assert said(HELLO, message("assistant", {"type": "step-start"})) == [USER]


class TestConversation:
    FORMER = (Turn("u1", [USER]), Turn("a1", [{"role": "assistant", "content": "Hi."}]))

    def test_a_new_message_follows_the_stored_turns(self) -> None:
        asked = read_ui_request({"id": "chat", "message": HELLO | {"id": "u2"}})

        assert [turn.id for turn in asked.after(self.FORMER)] == ["u1", "a1", "u2"]

    def test_a_repeated_message_replaces_itself_and_the_later_ones(self) -> None:
        asked = read_ui_request({"id": "chat", "message": HELLO})

        assert asked.after(self.FORMER) == [Turn("u1", [USER])]

    def test_a_regenerated_answer_is_removed_from_the_turns(self) -> None:
        body = {"id": "chat", "message": HELLO | {"id": ""}, "trigger": "regenerate-message", "messageId": "a1"}

        assert [turn.id for turn in read_ui_request(body).after(self.FORMER)] == ["u1", ""]

    def test_messages_without_an_id_replace_nothing(self) -> None:
        asked = read_ui_request({"id": "chat", "message": HELLO | {"id": ""}})

        assert len(asked.after([Turn("", [USER])])) == 2
