"""What the client writes: to a terminal as it comes, to a pipe when it is proven.

`Console` is stdout and stderr; the `Output`s are ways to write a job's answer. On a terminal an answer that is taken
back is erased, where it still stands on the screen and its rows can be counted; else it is said to be void. What was
written to a pipe can't be taken back, so it is written in the end, unless `--stream` wants it earlier. Above:
commands.py. Below: transcript.py, text.py.
"""

import json
import os
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from gateway.client.model.text import one_line, rows, safe
from gateway.client.model.transcript import Change, Counted, Said, TakenBack, Transcript, Voice
from shared.model.errors import AnswerNotWhole
from shared.model.sse_parser import SentEvent

# SGR parameters (ECMA-48 §8.3.117).
PLAIN, DIM, RED, YELLOW = "", "2", "31", "33"
_ERASE_BELOW = "\r\x1b[J"


class Console:
    """stdout and stderr. `colour` and `escapes`: whether a terminal gets colours, and escape sequences at all."""

    def __init__(self, out: BinaryIO, err: BinaryIO, *, colour: bool, escapes: bool) -> None:
        self._out = out
        self._err = err
        self._colour = colour and escapes
        self._escapes = escapes
        self.is_terminal = out.isatty()
        self._err_is_terminal = err.isatty()
        self._shown: list[str] = []
        self._size: os.terminal_size | None = None

    def write(self, text: str) -> None:
        """To stdout, as it is: for pipes, and for what is safe on a terminal."""
        self._send(self._out, text)

    def show(self, text: str, style: str = PLAIN) -> None:
        """To a terminal, safely, in a style; `erase` takes back all that was shown since it last did."""
        if not text:
            return
        text = safe(text)
        self._keep(text)
        self._send(self._out, self._styled(text, style) if self._colour else text)

    def erase(self) -> bool:
        """Take back what was shown; False: it can't be, and stays."""
        shown, self._shown = "".join(self._shown), []
        size = self._measure()
        # Where the window was made wider or narrower, terminals differ in what they do to their lines.
        if not self._escapes or size is None or size != self._size:
            return False
        fewest, most = rows(shown, size.columns)
        if fewest != most or most > size.lines:
            return False
        self._send(self._out, (f"\x1b[{most - 1}A" if most > 1 else "") + _ERASE_BELOW)
        return True

    def end_line(self) -> None:
        """Leave the cursor at the start of a line."""
        if self._shown and not self._shown[-1].endswith("\n"):
            self.show("\n")

    def note(self, sentence: str, style: str = DIM) -> None:
        """Tell a person something that is no part of the output, on stderr."""
        line = f"tailrace: {one_line(sentence)}\n"
        if self.is_terminal:
            self.end_line()
            if self._err_is_terminal:
                self._keep(line)  # most likely it is the same one
        self._send(self._err, self._styled(line, style) if self._colour and self._err_is_terminal else line)

    def fail(self, sentence: str) -> None:
        """Tell what went wrong."""
        self.note(sentence, RED)

    def _keep(self, text: str) -> None:
        if not self._shown:
            self._size = self._measure()
        self._shown.append(text)

    def _measure(self) -> os.terminal_size | None:
        try:
            return os.get_terminal_size(self._out.fileno())
        except OSError:
            return None

    @staticmethod
    def _styled(text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style else text

    @staticmethod
    def _send(stream: BinaryIO, text: str) -> None:
        stream.write(text.encode("utf-8", "replace"))
        stream.flush()


class Output(Protocol):
    """A way to write a job's answer."""

    def heard(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """An event came, and the transcript has it. Raises AnswerNotWhole where it can't be written any more."""
        ...

    def complete(self, transcript: Transcript) -> None:
        """The job is complete, and all that can be proven is."""
        ...


class OnScreen:
    """To a terminal, as it comes: reasoning dimmed, tools that are to be called in the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._voice: Voice | None = None
        self._counted = False

    def heard(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Show what was said, or take it back."""
        for change in changes:
            if isinstance(change, TakenBack):
                self._take_back(change, transcript)
            elif isinstance(change, Counted):
                self._count(change)
            else:
                self._say(change)

    def complete(self, transcript: Transcript) -> None:
        """Show the tools that are to be called."""
        for call in transcript.tool_calls:
            self._console.end_line()
            self._console.show(f"→ {one_line(call.name)} {call.arguments}\n", DIM)
        self._console.end_line()

    def _say(self, said: Said) -> None:
        if self._voice not in (None, said.voice):
            self._console.show("\n\n")
        self._voice = said.voice
        self._console.show(said.text, DIM if said.voice is Voice.REASONING else PLAIN)

    def _count(self, change: Counted) -> None:
        """In the place of the last count, if it can be erased."""
        if self._counted and not self._console.erase():
            self._console.show("\n")
        self._counted = True
        self._console.show(change.how_far, DIM)

    def _take_back(self, change: TakenBack, transcript: Transcript) -> None:
        self._voice = None
        if self._console.erase():
            self._console.show(f"[{change.why} The answer starts anew.]\n", YELLOW)
        else:
            self._console.show(f"\n[{change.why} What stands above is void.]\n", YELLOW)
        for said in transcript.said:
            self._say(said)


class AtTheEnd:
    """To a pipe, once it is proven: exactly the answer, and a line end if it has none."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heard(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Wait."""

    def complete(self, transcript: Transcript) -> None:
        """Write it."""
        self._console.write(_as_line(transcript.text))


class AsItComes:
    """To a pipe, as it comes. What is taken back after that makes it fail."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def heard(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Write what was said."""
        for change in changes:
            if isinstance(change, Said):
                if change.voice is Voice.ANSWER:
                    self._write(change.text)
            elif isinstance(change, TakenBack) and self._last:
                raise AnswerNotWhole(f"{change.why} Discard what was written.")

    def complete(self, transcript: Transcript) -> None:
        """End the line."""
        if self._last and self._last != "\n":
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._last = text[-1]
            self._console.write(text)


class EventLines:
    """Each event as a line of JSON, its data as the gateway sent it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heard(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Write it."""
        data = event.data.decode(errors="replace").replace("\n", " ")
        line = f'{{"event":{json.dumps(event.name)},"id":{json.dumps(event.id)},"data":{data}}}\n'
        self._console.write(safe(line) if self._console.is_terminal else line)

    def complete(self, transcript: Transcript) -> None:
        """All is written."""


def _as_line(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
