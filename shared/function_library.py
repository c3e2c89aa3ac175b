"""The atomic steps as one library of Redis Functions: the Lua of `shared/functions`, joined.

Not here: loading it and calling a step (valkey.py).
"""

from importlib import resources
from typing import Final

_PARTS: Final = (
    "base",
    "queue",
    "jobs",
    "log",
    "endings",
    "viewers",
    "reading",
    "dead_letters",
    "conversations",
    "providers",
    "registration",
)
"""In this order: a part calls functions of those before it."""


def read_source() -> str:
    """Read the library's source."""
    folder = resources.files("shared").joinpath("functions")
    return "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in _PARTS)
