"""Make a secret once and store it in a file that only its owner can read.

For the embedded Valkey's password and the development key. Not for secrets that a setting can hold.
"""

import os
from collections.abc import Callable
from pathlib import Path


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Read the secret in `path`; if it is missing, `make` one and store it.

    Raises:
        OSError: the file can't be read or written.
    """
    try:
        if kept := path.read_text(encoding="ascii").strip():
            return kept
    except FileNotFoundError:
        pass
    secret = make()
    # Whole or not at all: a crash in between must not leave half a secret for the next start.
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return secret
