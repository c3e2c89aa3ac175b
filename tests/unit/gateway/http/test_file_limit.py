"""Test the limit of open files: raised if the system allows it, else fewer connections."""

import resource

import pytest

from gateway.http.file_limit import room_for
from shared.model.bounds import SPARE_FILES

NO_LIMIT = resource.RLIM_INFINITY


class Limits:
    """A process's limit of open files, in place of this process's own."""

    def __init__(self, soft: int, hard: int, *, fixed: bool = False) -> None:
        self.soft, self.hard, self._fixed = soft, hard, fixed

    def get(self, _: int) -> tuple[int, int]:
        return self.soft, self.hard

    def set(self, _: int, wanted: tuple[int, int]) -> None:
        if self._fixed:
            raise ValueError("not allowed")
        self.soft, self.hard = wanted


@pytest.mark.parametrize(
    ("limits", "connections", "soft"),
    [
        (Limits(1_024, 1_000_000), 16_384, 16_384 + SPARE_FILES),
        (Limits(1_024, NO_LIMIT), 16_384, 16_384 + SPARE_FILES),
        (Limits(1_000_000, 1_000_000), 16_384, 1_000_000),
        (Limits(NO_LIMIT, NO_LIMIT), 16_384, NO_LIMIT),
        (Limits(1_024, SPARE_FILES + 100), 100, SPARE_FILES + 100),
        (Limits(SPARE_FILES + 10, 1_000_000, fixed=True), 10, SPARE_FILES + 10),
        (Limits(1, 1), 1, 1),
    ],
    ids=[
        "raised",
        "raised without a ceiling",
        "enough",
        "unlimited",
        "up to the ceiling",
        "not allowed",
        "at least one",
    ],
)
def test_connections_are_as_many_as_the_files_allow(
    limits: Limits, connections: int, soft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)

    assert room_for(16_384) == connections
    assert limits.soft == soft
