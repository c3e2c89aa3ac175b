"""One test in several dialects at once, so that their round trips to Redis overlap.

A test that takes `dialect` and `model` is written for one dialect. `in_every_dialect` runs it for each, with a model of
its own, and reports every dialect in which it fails.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import count
from typing import Any

from tests.cases.dialects import BACKGROUND, DIALECTS, RESPONSE, RESPONSE_STREAM, Dialect
from tests.cases.stage import CHAIN, ONCE, ROUTES

Test = Callable[..., Awaitable[None]]

_numbers = count()
MODELS: dict[str, Callable[[], str]] = {
    "model": lambda: f"model-{next(_numbers)}",
    ONCE: lambda: f"{ONCE}-{next(_numbers) % ROUTES}",
    CHAIN: lambda: f"{CHAIN}-{next(_numbers) % ROUTES}",
}
"""Makers of models that no other test asks: each has a circuit of its own. Arguments of these names get one."""


def in_dialects(*dialects: Dialect) -> Callable[[Test], Test]:
    """Run a test in each of these dialects, all at the same time."""

    def decorate(test: Test) -> Test:
        parameters = inspect.signature(test).parameters
        ours = [name for name in MODELS if name in parameters]

        @wraps(test)
        async def run(**given: Any) -> None:
            async def in_one(dialect: Dialect) -> None:
                try:
                    await test(dialect=dialect, **{name: MODELS[name]() for name in ours}, **given)
                except (AssertionError, Exception) as error:  # it is raised again, with the others
                    error.add_note(f"in the dialect {dialect.name}")
                    raise

            ends = await asyncio.gather(*map(in_one, dialects), return_exceptions=True)
            failures = [end for end in ends if end is not None]
            if len(failures) == 1:
                raise failures[0]
            if failures:
                raise BaseExceptionGroup("The test fails in several dialects.", failures)

        shown = [each for name, each in parameters.items() if name not in ("dialect", *ours)]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return run

    return decorate


in_every_dialect = in_dialects(*DIALECTS)
in_responses = in_dialects(RESPONSE, RESPONSE_STREAM, BACKGROUND)
