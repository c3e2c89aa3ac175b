"""Test the fields that an upstream adds to choices and chunks, in streams and whole answers."""

import pytest

from shared.model.events import Event, EventType
from tests.unit.gateway.dialects.chat.chats import (
    GAP,
    choices_of,
    completed,
    completion,
    delta,
    ended,
    rollback,
    said,
    stream,
)


class TestExtras:
    """Test fields that the upstream sent beside the delta, in its choice and in its chunk."""

    def test_a_choices_fields_stand_beside_its_delta_once(self) -> None:
        answer = stream()
        filtered = {"hate": {"filtered": False}}

        choices = choices_of(
            answer.translate(delta({"content": "a", "choice_extra": {"content_filter_results": filtered}}))
            + answer.translate(delta({"content": "b"}))
        )

        assert choices[1:] == [
            {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "content_filter_results": filtered},
            {"index": 0, "delta": {"content": "b"}, "finish_reason": None},
        ]

    def test_scalars_of_a_chunk_stay_until_they_change_and_the_rest_is_shown_once(self) -> None:
        answer = stream(include_usage=True)
        events = [
            delta({"content": "a", "chunk_extra": {"system_fingerprint": "fp_1", "citations": ["x"]}}),
            delta({"content": "b"}),
            delta({"content": "c", "chunk_extra": {"system_fingerprint": "fp_2", "service_tier": "flex"}}),
            delta({"content": "d"}),
            completed("stop"),
        ]

        *chunks, done = said(b"".join(map(answer.translate, events)))

        assert [chunk.get("system_fingerprint") for chunk in chunks] == ["fp_1"] * 3 + ["fp_2"] * 4
        assert [chunk.get("service_tier") for chunk in chunks] == [None] * 3 + ["flex"] * 4
        assert [chunk.get("citations") for chunk in chunks] == [None, ["x"]] + [None] * 5
        assert done == "[DONE]"

    def test_a_fields_place_follows_its_last_value(self) -> None:
        answer = stream()
        events = [
            delta({"content": "a", "chunk_extra": {"note": "text"}}),
            delta({"content": "b", "chunk_extra": {"note": ["list"]}}),
            delta({"chunk_extra": {"note": ["other"]}}),
            delta({"content": "c", "chunk_extra": {"note": 1}}),
        ]

        chunks = said(b"".join(map(answer.translate, events)))

        assert [chunk.get("note") for chunk in chunks] == ["text", "text", ["list"], 1]

    def test_fields_that_come_alone_wait_for_the_next_chunk_of_their_choice(self) -> None:
        answer = stream(choices=2)
        answer.translate(delta({"content": "a"}))
        answer.translate(delta({"content": "b", "index": 1}))

        alone = answer.translate(
            delta({"choice_extra": {"stop_reason": 7}, "index": 1, "chunk_extra": {"cite": ["x"]}})
        )
        chunks = said(answer.translate(delta({"content": "c"})) + answer.translate(completed("stop", "length")))

        assert alone == b""
        assert [chunk.get("cite") for chunk in chunks[:-1]] == [["x"], None, None]
        assert [choice.get("stop_reason") for chunk in chunks[:-1] for choice in chunk["choices"]] == [None, None, 7]
        assert chunks[2]["choices"][0]["finish_reason"] == "length"

    def test_a_field_of_the_first_choice_waits_for_that_choice(self) -> None:
        answer = stream(choices=2)
        events = [
            delta({"content": "a"}),
            delta({"choice_extra": {"note": 1}}),
            delta({"content": "b", "index": 1}),
            delta({"content": "c"}),
        ]

        choices = choices_of(b"".join(map(answer.translate, events)))

        assert [(choice["index"], choice.get("note")) for choice in choices] == [
            (0, None),
            (0, None),
            (1, None),
            (1, None),
            (0, 1),
        ]

    def test_a_choice_that_has_fields_only_is_finished_with_them(self) -> None:
        answer = stream(choices=2)
        answer.translate(delta({"choice_extra": {"note": 1}, "index": 1}))

        choices = choices_of(answer.translate(completed("stop")))

        assert [(choice["index"], choice["finish_reason"], choice.get("note")) for choice in choices] == [
            (0, None, None),
            (0, "stop", None),
            (1, None, None),
            (1, "stop", 1),
        ]

    def test_choices_that_are_opened_at_the_end_are_finished_too(self) -> None:
        answer = stream(choices=3)
        answer.translate(delta({"choice_extra": {"note": 1}, "index": 2}))

        choices = choices_of(answer.translate(completed("stop")))

        finished = [choice["index"] for choice in choices if choice["finish_reason"]]
        assert (
            sorted(finished) == sorted(choice["index"] for choice in choices if "role" in choice["delta"]) == [0, 1, 2]
        )

    def test_fields_alone_begin_no_answer(self) -> None:
        answer = stream()

        assert answer.translate(delta({"chunk_extra": {"system_fingerprint": "fp"}})) == b""
        assert not answer.shown
        assert answer.translate(ended(EventType.FAILED)) == b""

    @pytest.mark.parametrize(
        ("event", "kept"), [(rollback("1-2"), "old"), (rollback("0-1"), None), (GAP, None)], ids=["to", "all", "gap"]
    )
    def test_fields_that_were_taken_back_are_not_shown(self, event: Event, kept: str | None) -> None:
        answer = stream()
        answer.translate(delta({"choice_extra": {"stop_reason": "old"}}, seq=2))
        answer.translate(delta({"chunk_extra": {"fp": "new"}}, seq=3))
        answer.translate(event)

        role, chunk = said(answer.translate(delta({"content": "a"}, epoch=3)))

        assert "fp" not in role | chunk
        assert chunk["choices"][0].get("stop_reason") == kept

    @pytest.mark.parametrize("extra", ["choice_extra", "chunk_extra"])
    def test_fields_never_replace_those_of_the_dialect(self, extra: str) -> None:
        names = ["id", "object", "created", "model", "choices", "usage", "index", "delta", "message", "text"]
        odd = delta({"content": "a", extra: dict.fromkeys([*names, "finish_reason", "logprobs"], "odd")})
        events = [odd, completed("stop")]

        plain = [delta({"content": "a"}), completed("stop")]
        assert b"".join(map(stream().translate, events)) == b"".join(map(stream().translate, plain))
        assert completion(*events).body() == completion(*plain).body()

    def test_a_field_that_looks_like_the_protocol_survives(self) -> None:
        answer = stream()
        answer.translate(delta({"content": "a", "chunk_extra": {'"delta":{}': '"delta":{}'}}))

        (chunk,) = said(answer.translate(delta({"content": "b"})))

        assert chunk['"delta":{}'] == '"delta":{}'
        assert chunk["choices"][0]["delta"] == {"content": "b"}

    def test_a_completion_has_all_pieces_of_a_field_that_adds_up(self) -> None:
        events = [delta({"content": "a", "choice_extra": {"token_ids": [seq]}}, seq=seq) for seq in (2, 3, 4)]

        assert completion(*events, completed("stop")).body()["choices"][0]["token_ids"] == [2, 3, 4]

    def test_a_completion_has_the_last_value_of_each_in_its_place(self) -> None:
        body = completion(
            delta({"content": "a", "chunk_extra": {"citations": ["x"], "system_fingerprint": "fp"}}),
            delta({"content": "b", "chunk_extra": {"citations": ["x", "y"]}, "choice_extra": {"stop_reason": None}}),
            delta({"index": 1, "choice_extra": {"stop_reason": 7}}),
            completed("stop", "stop"),
        ).body()

        assert (body["citations"], body["system_fingerprint"]) == (["x", "y"], "fp")
        assert [choice.get("stop_reason", "none") for choice in body["choices"]] == [None, 7]
        assert all(choice["message"].keys() == {"role", "content", "refusal"} for choice in body["choices"])
