"""Test the output to a terminal, and to pipes."""

import io
import os
import termios
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from gateway.client.model.transcript import Transcript
from gateway.client.terminal import AsItComes, AtTheEnd, Console, EventLines, OnScreen, Output
from shared.model.errors import AnswerNotWhole
from shared.model.events import encode_data
from shared.model.sse_parser import SentEvent

ROWS, COLUMNS = 5, 20
_MARK = b"\0"


class Window:
    """Open a terminal of 5 rows and 20 columns."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self.resize(ROWS, COLUMNS)
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # line ends as they were written
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.stream: BinaryIO = os.fdopen(slave, "wb", buffering=0)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._master, (rows, columns))

    def written(self) -> str:
        """Return the output since the last call."""
        self.stream.write(_MARK)  # the output arrives with a delay; the mark shows its end
        said = b""
        while not said.endswith(_MARK):
            said += os.read(self._master, 1 << 16)
        return said.removesuffix(_MARK).decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def window() -> Iterator[Window]:
    opened = Window()
    yield opened
    opened.close()


def console(window: Window, *, colour: bool = False, escapes: bool = True) -> Console:
    return Console(window.stream, window.stream, colour=colour, escapes=escapes)


class Pipes:
    """Open pipes as stdout and stderr."""

    def __init__(self) -> None:
        self._out, self._err = io.BytesIO(), io.BytesIO()
        self.console = Console(self._out, self._err, colour=True, escapes=True)

    @property
    def out(self) -> str:
        return self._out.getvalue().decode()

    @property
    def err(self) -> str:
        return self._err.getvalue().decode()


def say(output: Output, transcript: Transcript, *texts: str, field: str = "content") -> None:
    for text in texts:
        tell(output, transcript, "delta", encode_data({field: text}))


def tell(output: Output, transcript: Transcript, name: str, data: bytes) -> None:
    event = SentEvent(name, data, str(transcript.cursor.next()))
    output.show(event, transcript.apply(event), transcript)


def roll_back(output: Output, transcript: Transcript, to: str = "0-0") -> None:
    tell(output, transcript, "rollback", encode_data({"to": to}))


LOST = "[The attempt was lost. The answer starts anew.]\n"
VOID = "\n[The attempt was lost. What stands above is void.]\n"


# --- The screen


def test_a_terminal_gets_the_text_and_a_line_end(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "one ", "two")
    assert window.written() == "one two"
    screen.complete(transcript)
    assert window.written() == "\n"


def test_reasoning_is_dimmed_and_stands_apart(window: Window) -> None:
    screen, transcript = OnScreen(console(window, colour=True)), Transcript()

    say(screen, transcript, "hm", field="reasoning_content")
    say(screen, transcript, "yes")

    assert window.written() == "\x1b[2mhm\x1b[0m\n\nyes"


def test_rolled_back_text_is_erased_row_by_row(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "x" * COLUMNS, "\ny")
    roll_back(screen, transcript)

    assert window.written().removeprefix("x" * COLUMNS + "\ny") == f"\x1b[1A\r\x1b[J{LOST}"


def test_a_single_row_needs_no_way_up(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "one")
    roll_back(screen, transcript)

    assert window.written() == f"one\r\x1b[J{LOST}"


def test_text_before_the_rollback_point_is_printed_again(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "one ", "two")
    roll_back(screen, transcript, to="0-1")

    assert window.written() == f"one two\r\x1b[J{LOST}one "


@pytest.mark.parametrize("text", ["a\n" * ROWS, "…" * 15])
def test_text_that_cannot_be_erased_is_declared_void(window: Window, text: str) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, text)
    roll_back(screen, transcript)
    say(screen, transcript, "anew")
    roll_back(screen, transcript)

    assert window.written() == f"{text}{VOID}anew\x1b[4A\r\x1b[J{LOST}"


def test_on_a_window_that_was_resized_nothing_is_erased(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "one")
    window.resize(ROWS, COLUMNS + 1)
    roll_back(screen, transcript)

    assert window.written() == f"one{VOID}"


def test_a_dumb_terminal_gets_no_escape_sequences(window: Window) -> None:
    shown = console(window, colour=True, escapes=False)
    screen, transcript = OnScreen(shown), Transcript()

    say(screen, transcript, "hm", field="reasoning_content")
    roll_back(screen, transcript)
    shown.fail("It is so.")

    assert window.written() == f"hm{VOID}tailrace: It is so.\n"


def test_a_note_in_mid_answer_has_a_line_of_its_own_and_is_erased_too(window: Window) -> None:
    shown = console(window)
    screen, transcript = OnScreen(shown), Transcript()

    say(screen, transcript, "one")
    shown.note("Wait.")
    say(screen, transcript, "two")
    roll_back(screen, transcript)

    assert window.written() == f"one\ntailrace: Wait.\ntwo\x1b[2A\r\x1b[J{LOST}"


def test_a_note_before_the_answer_does_not_prevent_erasing(window: Window) -> None:
    shown = console(window)
    screen, transcript = OnScreen(shown), Transcript()

    shown.note("Wait.")
    say(screen, transcript, "one")
    roll_back(screen, transcript)

    assert window.written() == f"tailrace: Wait.\none\x1b[1A\r\x1b[J{LOST}"


def test_half_of_a_character_is_replaced(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "a\ud83c")

    assert window.written() == "a\ufffd"


def test_tool_calls_are_shown_in_the_end(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()

    say(screen, transcript, "Let me see.")
    calls = [
        {"index": 0, "function": {"name": "f", "arguments": '{"a":\x1b1}'}},
        {"index": 1, "function": {"name": "g\n\x1b[2J\u202e→ h", "arguments": "{}"}},
    ]
    tell(screen, transcript, "delta", encode_data({"tool_calls": calls}))
    screen.complete(transcript)

    assert window.written() == 'Let me see.\n→ f {"a":␛1}\n→ g ␛[2J\ufffd→ h {}\n'


# --- Pipes


def test_a_pipe_gets_the_answer_at_the_end_with_a_line_end_added_if_missing() -> None:
    pipes, transcript = Pipes(), Transcript()
    output = AtTheEnd(pipes.console)

    say(output, transcript, "void")
    roll_back(output, transcript)
    say(output, transcript, "hm", field="reasoning_content")
    say(output, transcript, "\x1b[2J", "🌊")
    assert pipes.out == ""
    output.complete(transcript)

    assert pipes.out == "\x1b[2J🌊\n"


@pytest.mark.parametrize(("text", "written"), [("", ""), ("one\n", "one\n"), ("\n", "\n")])
@pytest.mark.parametrize("kind", [AtTheEnd, AsItComes])
def test_a_line_end_is_not_added_to_an_empty_text_or_after_another(
    kind: type[AtTheEnd] | type[AsItComes], text: str, written: str
) -> None:
    pipes, transcript = Pipes(), Transcript()
    output = kind(pipes.console)

    say(output, transcript, text)
    output.complete(transcript)

    assert pipes.out == written


def test_a_stream_is_written_as_it_comes_without_reasoning() -> None:
    pipes, transcript = Pipes(), Transcript()
    output = AsItComes(pipes.console)

    say(output, transcript, "hm", field="reasoning_content")
    say(output, transcript, "one ")
    assert pipes.out == "one "
    say(output, transcript, "two")
    output.complete(transcript)

    assert pipes.out == "one two\n"


def test_a_stream_that_was_written_can_not_be_taken_back() -> None:
    pipes, transcript = Pipes(), Transcript()
    output = AsItComes(pipes.console)

    say(output, transcript, "hm", field="reasoning_content")
    roll_back(output, transcript)
    say(output, transcript, "one")

    with pytest.raises(AnswerNotWhole, match="Discard what was written"):
        roll_back(output, transcript)


def test_events_are_lines_of_json_as_they_were_sent() -> None:
    pipes, transcript = Pipes(), Transcript()
    output = EventLines(pipes.console)

    tell(output, transcript, "delta", b'{"content":\n"a  \\u001b"}')
    output.show(SentEvent("gap", b"{}", None), (), transcript)
    output.complete(transcript)

    assert pipes.out == (
        '{"event":"delta","id":"0-1","data":{"content": "a  \\u001b"}}\n{"event":"gap","id":null,"data":{}}\n'
    )


def test_not_even_events_bring_control_characters_to_a_terminal(window: Window) -> None:
    tell(EventLines(console(window)), Transcript(), "delta", '{"content":"\x9b\x7f"}'.encode())

    assert window.written() == '{"event":"delta","id":"0-1","data":{"content":"\ufffd␡"}}\n'


def test_notices_go_to_stderr_on_one_line() -> None:
    pipes = Pipes()

    pipes.console.note("Wait\na moment.")
    pipes.console.fail("\x1b[2J")

    assert (pipes.out, pipes.err) == ("", "tailrace: Wait a moment.\ntailrace: ␛[2J\n")


# Jobs that count.


def count(output: Output, transcript: Transcript, *dones: int) -> None:
    for done in dones:
        tell(output, transcript, "progress", encode_data({"message": f"{done} of 9"}))


def test_on_a_terminal_each_count_takes_the_place_of_the_last_one(window: Window) -> None:
    screen, transcript = OnScreen(console(window)), Transcript()
    count(screen, transcript, 1, 2)
    screen.complete(transcript)

    assert window.written() == "1 of 9\r\x1b[J2 of 9\n"


def test_each_count_has_its_own_line_on_a_terminal_that_cannot_erase(window: Window) -> None:
    screen, transcript = OnScreen(console(window, escapes=False)), Transcript()
    count(screen, transcript, 1, 2)

    assert window.written() == "1 of 9\n2 of 9"


@pytest.mark.parametrize("kind", [AtTheEnd, AsItComes])
def test_no_count_is_written_to_a_pipe(kind: type[AtTheEnd | AsItComes]) -> None:
    pipes, transcript = Pipes(), Transcript()
    output = kind(pipes.console)
    count(output, transcript, 1, 2)
    output.complete(transcript)

    assert (pipes.out, pipes.err) == ("", "")
