"""Provide a clock of the event loop that a test moves."""

import asyncio
from collections.abc import Callable

import pytest


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the event loop's clock forward, at once."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return forward
