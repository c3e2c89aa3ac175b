"""A foreign text as one line of a sentence: bounded, printable, and without the provider's key.

Pure. Not here: which text is worth quoting.
"""

from shared.model.bounds import SENTENCE_CHARS

# Cleaning takes time for each character, and only the beginning is shown.
_READ_CHARS = 4 * SENTENCE_CHARS


def quoted(text: str, secret: str | None = None, most: int = SENTENCE_CHARS) -> str:
    """Return the beginning of a text, fit for callers' eyes."""
    # The secret is removed first: a cut through it would show a part.
    bare = text.replace(secret, "***") if secret else text
    line = " ".join("".join(each if each.isprintable() else " " for each in bare[:_READ_CHARS]).split())
    return line if len(line) <= most else line[:most] + "…"
