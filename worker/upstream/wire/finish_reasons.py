"""Finish reasons: the words of many upstreams, as OpenAI's words or as a failure.

Pure. Not here: the decision after a failure (worker/model/retry.py).
"""

from collections.abc import Mapping
from typing import Final

from shared.model.bounds import REASON_CHARS
from shared.model.errors import ProviderGarbage

# Lower-case word -> OpenAI's word. Sources: the API references of Google, Anthropic, Cohere, Mistral, TGI and Zhipu.
_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "prohibited_content"), "content_filter"),
    **dict.fromkeys(("spii", "refusal", "sensitive"), "content_filter"),
}
# The upstream broke off: OpenRouter and Bedrock say `error`, vLLM and SGLang `abort`, TensorRT-LLM `cancelled` and
# `timeout`, Zhipu and DeepSeek the next two, Gemini of a call that it could not read itself the last two.
_FAILURES: Final = frozenset(
    {
        *("error", "abort", "cancelled", "canceled", "timeout", "failed"),
        *("network_error", "insufficient_system_resource", "malformed_function_call", "unexpected_tool_call"),
    }
)
_PREFIX: Final = "finish_reason_"


class BrokenOff(Exception):
    """The finish reason says that the answer failed."""


def finish_reason(value: object) -> str | None:
    """Return OpenAI's word for an upstream's finish reason; None if the choice has not ended.

    An unknown word is returned as it came.

    Raises:
        BrokenOff: it names a failure.
        ProviderGarbage: it is not a short text.
    """
    if not value:
        return None  # some upstreams send "" for null
    if not isinstance(value, str) or len(value) > REASON_CHARS:
        raise ProviderGarbage(
            f"The provider sent a finish reason that is not a string of up to {REASON_CHARS} characters."
        )
    word = value.lower().removeprefix(_PREFIX)
    if word in _FAILURES:
        raise BrokenOff(value)
    return _WORDS.get(word, value)
