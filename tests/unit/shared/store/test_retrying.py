"""Test calls that are repeated through an outage of Redis."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from structlog.testing import capture_logs

from shared.store.retrying import retry_until_redis_answers


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time pass between tries; return the pauses."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return pauses


class Call:
    """A call that meets these errors before it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_a_call_is_repeated_until_redis_answers_with_longer_and_longer_pauses(no_pauses: list[float]) -> None:
    with capture_logs() as logs:
        assert await retry_until_redis_answers(Call(*[ConnectionLost("away")] * 7)) == "done"

    assert no_pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("worker.waits_for_redis", "warning"),
        *[("worker.waits_for_redis", "debug")] * 6,
        ("worker.waited_for_redis", "info"),
    ]


async def test_a_call_that_succeeds_is_made_once_and_nothing_is_logged(no_pauses: list[float]) -> None:
    with capture_logs() as logs:
        assert await retry_until_redis_answers(Call()) == "done"

    assert no_pauses == []
    assert logs == []


async def test_an_error_that_is_not_an_outage_is_raised(no_pauses: list[float]) -> None:
    with pytest.raises(ZeroDivisionError):
        await retry_until_redis_answers(Call(ConnectionLost("away"), ZeroDivisionError()))

    assert len(no_pauses) == 1


async def test_a_cancellation_ends_the_tries() -> None:
    with pytest.raises(asyncio.CancelledError):
        await retry_until_redis_answers(Call(ConnectionLost("away"), asyncio.CancelledError()))  # type: ignore[arg-type]
