"""Test a check that is repeated until it is cancelled."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from structlog.testing import capture_logs

from shared.store.client import Outage
from shared.store.repeated_check import repeat


async def outcomes(*results: Exception | None, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a check that ends so each time, and is cancelled then."""
    left = list(results)

    async def check() -> None:
        if not left:
            raise asyncio.CancelledError
        if (error := left.pop(0)) is not None:
            raise error

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    await repeat(check, 2.5, Outage("thing.lost", "thing.back"))


async def test_a_check_is_repeated_through_an_outage_which_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    away = ConnectionLost("away")

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await outcomes(None, away, away, None, None, pauses=pauses, monkeypatch=monkeypatch)

    assert pauses == [2.5] * 5
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("thing.lost", "warning"),
        ("thing.lost", "debug"),
        ("thing.back", "info"),
    ]


async def test_a_defect_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        await outcomes(None, ZeroDivisionError(), pauses=[], monkeypatch=monkeypatch)
