"""Script the attempts at an answer: the first call fails, a later one answers.

Not here: the provider that plays them (controlled_provider.py).
"""

from typing import Any

from shared.config.settings import Settings
from shared.model.errors import (
    AttemptFailed,
    ProviderUnreachable,
)
from shared.model.routes import Continuation
from tests.support.controlled_provider import Call, ControlledProvider

BROKEN = ProviderUnreachable("The connection broke.")
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def with_three_attempts(settings: Settings) -> Settings:
    """Allow three attempts, at a provider that can go on in mid-sentence."""
    return settings.model_copy(update={"max_attempts": 3, "upstream_continuation": Continuation.PREFILL})


def begun(call: Call) -> str | None:
    """Return the beginning of the answer that a request holds."""
    last = call.request["messages"][-1]
    text: str | None = last["content"] if last["role"] == "assistant" else None
    return text


async def fail_first(provider: ControlledProvider, *words: str, error: AttemptFailed = BROKEN) -> None:
    """Make the first call say this, then fail."""
    call = await provider.call()
    call.say(*words)
    call.fail(error)


async def answer(provider: ControlledProvider, number: int, *words: str, **end: Any) -> Call:
    """Make this call say this, and end: that is the answer."""
    call = await provider.call(number)
    call.say(*words)
    call.end(**end)
    return call
