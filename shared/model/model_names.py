"""Check the names of models: those that a caller may ask for, and those of an upstream's list that are offered.

An upstream's list may hold anything. A name that is not printable could forge the output of a terminal or a page: it is
not offered, and a caller may not ask for it.
Pure. Not here: the lists of the upstreams (worker/upstream/model_lists.py).
"""

from typing import Final, NamedTuple, TypeGuard

from shared.model.bounds import MODELS

MODEL_CHARS: Final = 255
"""Characters of a model's name."""


def is_model_name(value: object) -> TypeGuard[str]:
    """Return whether this can be the name of a model.

    No control, format, private or unassigned character is printable, nor is half of a surrogate pair.
    """
    return isinstance(value, str) and 0 < len(value) <= MODEL_CHARS and value.isprintable()


class ModelListing(NamedTuple):
    """The models that can be asked for. `complete`: as far as is known, no other model exists."""

    models: tuple[str, ...] = ()
    complete: bool = False


def offered(listing: ModelListing) -> ModelListing:
    """Sort the names and leave out repeated ones, those that are not fit for a model, and those over `MODELS`."""
    names = sorted({name for name in listing.models if is_model_name(name)})
    return ModelListing(tuple(names[:MODELS]), listing.complete and len(names) <= MODELS)
