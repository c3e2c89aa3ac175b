"""The digest of a log's surviving deltas: their number, their hash and their text.

Pure. Not here: reading the log, and the choice of the deltas that survive.
"""

import hashlib
import json

# Deltas that hold nothing else are pieces of one text. Fields beside the text do not change its continuation.
_SPLICEABLE = frozenset({"content", "logprobs", "choice_extra", "chunk_extra"})


class StreamDigest:
    """Count the surviving deltas and hash their data bytes in order (SHA-256), for the terminal event."""

    def __init__(self) -> None:
        self.deltas = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Count a delta that was logged."""
        self.deltas += 1
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        """Return the hash so far."""
        return self._hash.hexdigest()

    def continued(self) -> "StreamDigest":
        """Return a copy, which counts on separately from the present state."""
        digest = StreamDigest()
        digest.deltas, digest._hash = self.deltas, self._hash.copy()
        return digest


class PartialAnswer(StreamDigest):
    """Count, hash and also collect the text."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self.spliceable = True
        """Whether the answer is text of one choice and nothing else: no tool calls, reasoning or refusal."""

    def add(self, data: bytes) -> None:
        """Count a delta that was logged."""
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
        """Return the answer so far; empty if it is not `spliceable`."""
        return "".join(self._texts)


class AnswerText(StreamDigest):
    """Count, hash and also collect the text of the first choice, up to `most` characters."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._texts: list[str] = []
        self._left = most

    def add(self, data: bytes) -> None:
        """Count a delta that was logged."""
        super().add(data)
        delta = json.loads(data)
        content = delta.get("content")
        if delta.get("index") or not isinstance(content, str):
            return
        self._left -= len(content)
        if not self.is_too_large:
            self._texts.append(content)

    @property
    def is_too_large(self) -> bool:
        """Return whether the text is longer than its bound."""
        return self._left < 0

    @property
    def text(self) -> str:
        """Return the text so far."""
        return "".join(self._texts)
