"""Servers with settable clocks of their own, by libfaketime, which is a Debian package.

If it is missing, `faketime_missing` is true. Not here: the clock that the functions keep
(shared/store/functions/base.lua).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.valkey import running_valkey

_LIBRARIES: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

faketime_missing: Final = not _LIBRARIES


class FakedClock:
    """The clock of one server, by a file that it reads at every reading of the time, or every `checks_s` seconds."""

    def __init__(self, file: Path, *, checks_s: int = 0) -> None:
        self._file = file
        self._checks_s = checks_s
        self.set_s(0)

    def set_s(self, ahead_s: int) -> None:
        """Put the clock so many seconds ahead of this machine's, or behind it."""
        self._file.write_text(f"{ahead_s:+d}\n")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process with this clock. Intervals that it measures stay as they are."""
        return {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            **({"FAKETIME_CACHE_DURATION": str(self._checks_s)} if self._checks_s else {"FAKETIME_NO_CACHE": "1"}),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@asynccontextmanager
async def running_with_clock(data_dir: Path) -> AsyncIterator[tuple[EmbeddedValkey, FakedClock]]:
    """A server and its clock."""
    clock = FakedClock(data_dir.with_suffix(".clock"))
    async with running_valkey(data_dir, clock.environment) as valkey:
        yield valkey, clock
