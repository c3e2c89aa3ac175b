"""Test the check that all tests run under (tests/support/strict_loop.py)."""

import asyncio
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("name", "given"), [("call_soon", (print,)), ("call_at", (0, print)), ("call_later", (0, print))]
)
async def test_a_callback_from_another_thread_is_refused(name: str, given: tuple[Any, ...]) -> None:
    call = getattr(asyncio.get_running_loop(), name)

    with pytest.raises(RuntimeError, match="Non-thread-safe"):
        await asyncio.to_thread(call, *given)
