"""Variables of the environment that look like settings and are not read: Kubernetes' service links, and misspelt names.

Pure. Not here: reading the environment (settings.py).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

PREFIX: Final = "TAILRACE_"
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")
_LINK_NAME: Final = re.compile(r".*_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)")
_ALIKE: Final = 0.85


class Trouble(StrEnum):
    """The kind of trouble with a variable; its value is the name of the log's event."""

    SERVICE_LINK = "settings.service_link_ignored"
    MISSPELT = "settings.unknown_variable"


@dataclass(frozen=True, slots=True)
class Note:
    """A variable that is not read, and the sentence for the log."""

    trouble: Trouble
    variable: str
    sentence: str


def is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes set a variable for a service (`enableServiceLinks`), so that it is not a setting."""
    name = name.upper()
    return bool(_LINK_NAME.fullmatch(name)) or (name.endswith("_PORT") and bool(_LINK_VALUE.match(value)))


def find_notes(environment: Mapping[str, str], settings: Collection[str]) -> Iterator[Note]:
    """List the variables that look like settings and are not read. `settings` are fields' names."""
    known = {PREFIX + name.upper() for name in settings}
    for variable, value in sorted(environment.items()):
        name = variable.upper()
        if is_service_link(name, value):
            if name in known and name.startswith(PREFIX):
                sentence = f"{name} is a Kubernetes service link and is ignored; set enableServiceLinks: false."
                yield Note(Trouble.SERVICE_LINK, name, sentence)
        elif name not in known and (meant := _meant(name, known)):
            sentence = f"{name} is not a setting and is ignored; {meant} is one."
            yield Note(Trouble.MISSPELT, name, sentence)


def _meant(name: str, known: Collection[str]) -> str | None:
    """Find the setting that a misspelt name stands for; only names that begin like ours are checked."""
    if not name.startswith(PREFIX[:4]):
        return None
    by_letters = {each.replace("_", ""): each for each in known}
    if (letters := name.replace("_", "").replace("-", "")) in by_letters:
        return by_letters[letters]
    close = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], 1, _ALIKE)
    return PREFIX + close[0] if close and name.startswith(PREFIX) else None
