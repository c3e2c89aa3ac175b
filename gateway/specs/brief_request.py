"""Shorten the request of a job that has ended without an answer.

Pure. A caller that returns for such a job gets its end in the requested form, for which no messages are needed. Not
here: which jobs keep the whole request (gateway/admission/admission.py), and when it is shortened
(shared/store/functions/kept.lua).
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.model.bounds import KIB
from shared.model.events import encode_in_pieces

# The fields that gateway/dialects/chat/answer_options.py reads.
_FORM: Final = ("model", "n", "stream_options", "functions", "tools")
_LEAST: Final = 16 * KIB
_SHARE: Final = 4


def brief_of(request: Mapping[str, Any], size: int) -> bytes:
    """Encode the fields that determine an answer's form, of a request of `size` bytes; empty if that saves little."""
    if size < _LEAST:
        return b""
    brief = encode_in_pieces({name: request[name] for name in _FORM if name in request})
    return brief if len(brief) <= size // _SHARE else b""
