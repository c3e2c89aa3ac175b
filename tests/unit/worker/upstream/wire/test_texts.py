"""Test texts of whole characters, and content lists as spans."""

from typing import Any

import pytest

from worker.upstream.wire.texts import Span, TextReader, read_spans

HIGH, LOW = "\ud83d", "\ude00"


def pieces(*texts: str) -> list[str]:
    reader = TextReader()
    return [*map(reader.read, texts), reader.end()]


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        (("Hello", " you"), ["Hello", " you", ""]),
        (("東京", "🌊"), ["東京", "🌊", ""]),
        (("a" + HIGH, LOW + "b"), ["a", "😀b", ""]),
        ((HIGH, "", LOW), ["", "", "😀", ""]),
        ((HIGH, "x"), ["", "\ufffdx", ""]),
        ((LOW,), ["\ufffd", ""]),
        ((HIGH, HIGH), ["", "\ufffd", "\ufffd"]),
        ((HIGH,), ["", "\ufffd"]),
    ],
)
def test_half_a_character_waits_for_its_other_half(texts: tuple[str, ...], read: list[str]) -> None:
    assert pieces(*texts) == read


def test_a_reader_reports_whether_half_a_character_waits() -> None:
    reader = TextReader()
    reader.read(HIGH)
    assert reader.waits
    reader.read(LOW)
    assert not reader.waits


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("Hello", [Span("content", "Hello")]),
        ([{"type": "text", "text": "Hello"}], [Span("content", "Hello")]),
        ({"type": "output_text", "text": "Hello"}, [Span("content", "Hello")]),
        (["a", {"text": "b"}], [Span("content", "a"), Span("content", "b")]),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, "."]}], [Span("reasoning_content", "Hm.")]),
        ([{"type": "reasoning", "text": "Hm."}], [Span("reasoning_content", "Hm.")]),
        ([{"type": "refusal", "refusal": "No."}], [Span("refusal", "No.")]),
        ([{"type": "text"}], [Span("content", "")]),
        ([{"type": "reference", "reference_ids": [1]}], [{"type": "reference", "reference_ids": [1]}]),
        ([{"type": "thinking", "thinking": [{"audio": 1}]}], [{"type": "thinking", "thinking": [{"audio": 1}]}]),
        ([{"type": "text", "text": {"value": "a"}}], [{"type": "text", "text": {"value": "a"}}]),
        (5, [5]),
    ],
)
def test_a_content_is_read_as_spans_in_its_order(value: Any, spans: list[Any]) -> None:
    assert list(read_spans(value, "content")) == spans
