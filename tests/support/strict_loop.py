"""A cheap part of asyncio's debug mode: the check that a callback comes from its loop's own thread.

The mode's other half takes a traceback for each callback, task and future, for which tests in this process take half as
long again. To see those tracebacks: `make test ARGS="-o asyncio_debug=true ..."`.
"""

from asyncio import BaseEventLoop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest


@contextmanager
def strict_loops() -> Iterator[None]:
    """All event loops refuse callbacks of other threads, which nothing would wake them for."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("call_soon", "call_at"):
            patch.setattr(BaseEventLoop, name, _checked(getattr(BaseEventLoop, name)))
        yield


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(loop: BaseEventLoop, *args: Any, **kwargs: Any) -> Any:
        loop._check_thread()  # type: ignore[attr-defined]
        return method(loop, *args, **kwargs)

    return call
