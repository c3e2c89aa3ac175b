"""The atomic steps as one library of Redis Functions: the Lua of `functions/`, joined, under names of its own.

A server holds the functions of all its clients, of every key prefix. Each name ends in a hash of the source, so
that two versions of Tailrace never replace each other's functions. Not here: loading it and calling a step (client.py).
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final, Self

_PARTS: Final = (
    "base",
    "ledger",
    "queue",
    "kept",
    "jobs",
    "log",
    "endings",
    "completion",
    "parents",
    "workflows",
    "viewers",
    "reading",
    "dead_letters",
    "conversations",
    "providers",
    "registration",
)
"""In this order: a part calls functions of those before it."""
_PLACEHOLDER = "@VERSION@"
_VERSION_DIGITS = 12
_LIBRARY_NAME = re.compile(r"tailrace_([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Library:
    """A library's source, and the version that its names end in."""

    version: str
    code: str

    @classmethod
    def of(cls, source: str) -> Self:
        """Make the library of a source: its version is the source's hash."""
        version = hashlib.sha256(source.encode()).hexdigest()[:_VERSION_DIGITS]
        return cls(version, source.replace(_PLACEHOLDER, version))

    @property
    def name(self) -> str:
        """The library's name on a server."""
        return f"tailrace_{self.version}"

    def function(self, step: str) -> str:
        """Name the function of a step."""
        return f"tailrace_{step}_{self.version}"


def read_source() -> str:
    """Read the library's source, with placeholders for its version."""
    folder = resources.files("shared.store").joinpath("functions")
    return "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in _PARTS)


def version_of(library_name: str) -> str | None:
    """Read the version from a library's name; None for a library that is not of this kind."""
    found = _LIBRARY_NAME.fullmatch(library_name)
    return found[1] if found else None


LIBRARY: Final = Library.of(read_source())
"""The library of this version of Tailrace."""
