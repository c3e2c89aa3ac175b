"""What a log's surviving deltas amount to: how many there are, what they prove, and what they say.

Above: attempt.py counts what it puts, ending.py what a log holds. Pure. Not here: reading the log, and which deltas
survive.
"""

import hashlib
import json

# Deltas that hold nothing else are pieces of one text. Fields beside the text do not change what follows it.
_SPLICEABLE = frozenset({"content", "logprobs", "choice_extra", "chunk_extra"})


class Tally:
    """What a terminal event proves: how many deltas survive, and the SHA-256 over their data bytes, in order."""

    def __init__(self) -> None:
        self.deltas = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """A delta was logged."""
        self.deltas += 1
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()

    def going_on(self) -> "Tally":
        """A tally of its own that begins where this one stands."""
        tally = Tally()
        tally.deltas, tally._hash = self.deltas, self._hash.copy()
        return tally


class Heard(Tally):
    """The same, with the text."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self.spliceable = True
        """Whether it is text of one choice and nothing else: no tool calls, reasoning or refusal."""

    def add(self, data: bytes) -> None:
        """A delta was logged."""
        super().add(data)
        if not self.spliceable:
            return
        delta = json.loads(data)
        content = delta.get("content", "")
        if delta.keys() <= _SPLICEABLE and isinstance(content, str):
            self._texts.append(content)
        else:
            self.spliceable = False
            self._texts.clear()

    @property
    def text(self) -> str:
        """The answer so far, where it is `spliceable`."""
        return "".join(self._texts)
