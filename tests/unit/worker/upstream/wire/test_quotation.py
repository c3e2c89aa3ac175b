"""Test foreign words in our sentences: bounded, on one line, without the key."""

from shared.model.bounds import SENTENCE_CHARS
from worker.upstream.wire.quotation import quoted


def test_a_text_is_shown_on_one_line() -> None:
    assert quoted("  two\r\n\tlines \x1b[31m\x00 red\ud83d é 東京") == "two lines [31m red é 東京"


def test_a_long_text_is_cut() -> None:
    assert quoted("x" * 10_000_000) == "x" * SENTENCE_CHARS + "…"
    assert quoted("four words are here", most=4) == "four…"
    assert quoted("x" * SENTENCE_CHARS) == "x" * SENTENCE_CHARS


def test_the_key_is_not_shown() -> None:
    assert quoted("Incorrect API key provided: sk-secret.", "sk-secret") == "Incorrect API key provided: ***."
    assert "sk-secret" not in quoted("x" * (SENTENCE_CHARS - 3) + "sk-secret", "sk-secret")
