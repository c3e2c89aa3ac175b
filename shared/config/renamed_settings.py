"""The settings that have another name now, so that an old name is refused and not ignored.

Pure. Not here: misspelt names (environment.py).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from shared.config.environment import PREFIX

RENAMED: Final[Mapping[str, str]] = MappingProxyType({"again_tokens": "max_regenerated_tokens"})
"""The old name of a setting -> its name of today."""


def explain_renamed(names: Iterable[str], renamed: Mapping[str, str] = RENAMED) -> str | None:
    """Name the new setting for each old one among `names`, in one sentence; None if no name is old.

    The names are fields', or variables' with the prefix, in any case.
    """
    fields = {name.upper().removeprefix(PREFIX).lower() for name in names}
    found = [f"{PREFIX}{old.upper()} is {PREFIX}{renamed[old].upper()} now" for old in sorted(fields & renamed.keys())]
    return f"{'; '.join(found)}: set the new name in place of the old one." if found else None
