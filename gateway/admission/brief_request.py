"""Says what is left of a request once its job has ended without an answer.

Pure. Whoever comes back for such a job learns how it ended, in the form that was asked for; nobody needs its messages.
Not here: which jobs keep all of it (admission.py), and when it is shortened (shared/store/functions/kept.lua).
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.model.bounds import KIB
from shared.model.events import encode_in_pieces

# What dialects/chat/answer_options.py reads.
_FORM: Final = ("model", "n", "stream_options", "functions", "tools")
_LEAST: Final = 16 * KIB
_SHARE: Final = 4


def brief_of(request: Mapping[str, Any], size: int) -> bytes:
    """Encode what an answer's form depends on, of a request of `size` bytes; empty if that would spare little."""
    if size < _LEAST:
        return b""
    brief = encode_in_pieces({name: request[name] for name in _FORM if name in request})
    return brief if len(brief) <= size // _SHARE else b""
