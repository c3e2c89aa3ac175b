"""The names of models: which ones can be asked for, and which of an upstream's list are offered.

An upstream says what it likes. A name that is not printable could change what a terminal or a page shows, so it is not
offered, and a caller may not ask for it. Pure. Not here: which models exist.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeGuard

from shared.bounds import MODELS

MODEL_CHARS: Final = 255
"""Characters of a model's name."""


def is_model_name(value: object) -> TypeGuard[str]:
    """Return whether this can be the name of a model.

    No control, format, private or unassigned character is printable, nor is half of a surrogate pair.
    """
    return isinstance(value, str) and 0 < len(value) <= MODEL_CHARS and value.isprintable()


class Names(NamedTuple):
    """The names that are offered, sorted; and how many were left out."""

    kept: tuple[str, ...]
    left_out: int


def offered(names: Iterable[object]) -> Names:
    """Choose the names of a list that are offered: each one once, and at most `MODELS` of them."""
    every = list(names)
    good = set(filter(is_model_name, every))
    unfit = sum(not is_model_name(name) for name in every)
    kept = sorted(good)[:MODELS]
    return Names(tuple(kept), unfit + len(good) - len(kept))
