"""Write the client's output: to a terminal as it arrives, to a pipe when it is proven.

`Console` is stdout and stderr; each `Output` is a way to write a job's answer. On a terminal an answer that is taken
back is erased, if it is still on the screen and its rows can be counted. Otherwise a note declares it void. Text in a
pipe can't be taken back. So it is written at the end, unless `--stream` requests it earlier.
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
    """Write to stdout and stderr. `colour` and `escapes`: whether a terminal gets colours, and any escape sequences."""

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
        """Write to stdout, unchanged: for pipes, and for text that is safe on a terminal."""
        self._send(self._out, text)

    def show(self, text: str, style: str = PLAIN) -> None:
        """Write to a terminal, safely, in a style; `erase` takes back all text shown since its last call."""
        if not text:
            return
        text = safe(text)
        self._keep(text)
        self._send(self._out, self._styled(text, style) if self._colour else text)

    def erase(self) -> bool:
        """Erase the text that was shown; return False if that is impossible and the text stays."""
        shown, self._shown = "".join(self._shown), []
        size = self._measure()
        # Terminals differ in how they wrap their lines after the window was made wider or narrower.
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
        """Write a sentence for a person, which is not part of the output, to stderr."""
        line = f"tailrace: {one_line(sentence)}\n"
        if self.is_terminal:
            self.end_line()
            if self._err_is_terminal:
                self._keep(line)  # most likely it is the same one
        self._send(self._err, self._styled(line, style) if self._colour and self._err_is_terminal else line)

    def fail(self, sentence: str) -> None:
        """Write the sentence of a failure to stderr."""
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
    """Write a job's answer in one of several ways."""

    def show(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Take an event that the transcript has. Raises AnswerNotWhole if the answer can't be written any more."""
        ...

    def complete(self, transcript: Transcript) -> None:
        """Finish the output: the job is complete, and its answer is proven as far as possible."""
        ...


class OnScreen:
    """Write to a terminal, as the answer arrives: reasoning dimmed, and at the end the tools to be called."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._voice: Voice | None = None
        self._counted = False

    def show(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Show new text, or take text back."""
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
        """Show a count in place of the last one, if that can be erased."""
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
    """Write to a pipe, once the answer is proven: exactly the answer, and a line end if it has none."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Ignore the event: the answer is written at the end."""

    def complete(self, transcript: Transcript) -> None:
        """Write the answer."""
        self._console.write(_as_line(transcript.text))


class AsItComes:
    """Write to a pipe, as the answer arrives. Text that is taken back afterwards makes it fail."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def show(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Write new text."""
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
    """Write each event as a line of JSON, its data as the gateway sent it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: SentEvent, changes: Sequence[Change], transcript: Transcript) -> None:
        """Write the event."""
        data = event.data.decode(errors="replace").replace("\n", " ")
        line = f'{{"event":{json.dumps(event.name)},"id":{json.dumps(event.id)},"data":{data}}}\n'
        self._console.write(safe(line) if self._console.is_terminal else line)

    def complete(self, transcript: Transcript) -> None:
        """Write nothing more: each event is written already."""


def _as_line(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
