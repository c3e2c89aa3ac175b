"""State machines of hypothesis that drive a real server: their event loop, their core, and how they are run.

Not here: the steps and the models (tests/property).
"""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.support.core import Core, open_core
from tests.support.valkey import fresh_prefix

T = TypeVar("T")
STEP_S = 5
# Not `explain`: it traces each line of Python, so that a failure turns into a time-out that hides it.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)


class ServerSteps(RuleBasedStateMachine):
    """A state machine with an event loop of its own, and a core on a real server."""

    redis_url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()

    def run(self, work: Awaitable[T]) -> T:
        """Carry out one step."""
        return self.loop.run_until_complete(asyncio.wait_for(work, STEP_S))

    def open_core(self) -> Core:
        """Open a core with a prefix of its own, until the machine ends."""
        return self.run(self.stack.enter_async_context(open_core(self.redis_url, fresh_prefix())))

    def teardown(self) -> None:
        """Close the core and the event loop."""
        self.run(self.stack.aclose())
        self.loop.close()


def run_steps(machine: type[ServerSteps], redis_url: str, *, examples: int, steps: int = 30, **options: Any) -> None:
    """Run a machine on this server. `options` are further settings of hypothesis."""
    run_state_machine_as_test(
        type("OnThisServer", (machine,), {"redis_url": redis_url}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            **{"phases": _PHASES, **options},
        ),
    )
