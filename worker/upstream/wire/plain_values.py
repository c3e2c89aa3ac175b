"""Values that an upstream sent and Tailrace passes on: JSON that every reader can take.

Pure. Not here: which values are passed on.
"""

import math
from typing import Any, Final

from shared.model.errors import ProviderGarbage
from shared.model.events import encode_data
from shared.model.text import whole

MAX_DEPTH: Final = 128
"""How deep a value may be nested. Python's own bound, which a client may have too, lies near 1,000."""


def plain(value: Any) -> Any:
    """Return the value with null for each number that JSON has no word for, and with whole characters only.

    Raises:
        ProviderGarbage: the value is nested more than `MAX_DEPTH` levels deep.
    """
    try:
        encoded = encode_data(value)
    except (ValueError, RecursionError):
        return _mended(value, MAX_DEPTH)
    # The bytes bound the depth from above: most values are flat, and this is all that they cost. A half of a character
    # has become U+FFFD in them.
    if b"\\ufffd" not in encoded and b"\\ud" not in encoded and encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH:
        return value
    return _mended(value, MAX_DEPTH)


def _mended(value: Any, levels: int) -> Any:
    match value:
        case str():
            return whole(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | dict() if not levels:
            raise ProviderGarbage(f"The provider sent a value that is nested more than {MAX_DEPTH} levels deep.")
        case list():
            return [_mended(each, levels - 1) for each in value]
        case dict():
            return {whole(name): _mended(each, levels - 1) for name, each in value.items()}
        case _:
            return value
