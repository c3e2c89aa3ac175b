"""The bodies that go up: a job's request, written as its provider can take it.

Pure. Not here: which field a provider has refused (transport_fields.py), and the beginning of a continued answer
(worker/model/continuation.py).
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from shared.model.jobs import KEPT
from shared.model.routes import DeveloperRole, MaxTokensField, RequestRules
from worker.upstream.wire.message_state import call_fields, has_thoughts, without_call_fields, without_thoughts
from worker.upstream.wire.transport_fields import TransportField

TAILRACE_FIELDS: Final = frozenset(
    {KEPT, "kind", "lane", "timeout_s", "on_disconnect", "abandon_after_s", "on_stream_failure", "webhook", "after"}
    | {"on_parent_failure"}
)
"""Fields that are Tailrace's own, and no upstream's."""

CHAT_FIELDS: Final = frozenset(
    {"model", "messages", "temperature", "top_p", "n", "seed", "stop", "max_tokens", "max_completion_tokens", "user"}
    | {"frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format"}
    | {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort", "verbosity"}
    | {"modalities", "audio", "prediction", "web_search_options", "service_tier", "store", "metadata", "moderation"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "stream_options"}
)
"""The fields of OpenAI's chat completions."""
EMBEDDINGS_FIELDS: Final = frozenset({"model", "input", "dimensions", "user"})
"""The fields of OpenAI's embeddings."""

# vLLM's words for the rest of an answer: worker/model/continuation.py adds them if the provider's setting says so.
_CONTINUATION = frozenset({"continue_final_message", "add_generation_prompt"})
_KNOWN_CHAT = CHAT_FIELDS | _CONTINUATION


def write_chat(
    request: Mapping[str, Any], rules: RequestRules, left_out: Collection[TransportField] = ()
) -> dict[str, Any]:
    """Write a chat request. `left_out` are fields that the provider has refused."""
    body = _passed(request, _KNOWN_CHAT, rules)
    given = body.pop("stream_options", None)
    if rules.streaming and TransportField.STREAM not in left_out:
        body["stream"] = True
        if rules.stream_usage and TransportField.STREAM_OPTIONS not in left_out:
            body["stream_options"] = {**(given if isinstance(given, dict) else {}), "include_usage": True}
    if rules.max_tokens_field is not None:
        _name_limit(body, rules.max_tokens_field)
    if TransportField.THOUGHTS in left_out:
        body["messages"] = [without_thoughts(each) for each in body["messages"]]
    if TransportField.CALL_STATE in left_out:
        body["messages"] = [without_call_fields(each) for each in body["messages"]]
    if rules.developer_role is not None:
        body["messages"] = [_renamed(each, rules.developer_role) for each in body["messages"]]
    return body


def has_callers_options(body: Mapping[str, Any]) -> bool:
    """Return whether the options of the stream have more than Tailrace adds to them."""
    return not {"include_usage"}.issuperset(body.get(TransportField.STREAM_OPTIONS) or ())


def state_fields(body: Mapping[str, Any]) -> frozenset[str]:
    """Find the names of fields that give an earlier answer's state back."""
    messages = body.get("messages")
    return call_fields(messages) | ({TransportField.THOUGHTS.value} if has_thoughts(messages) else frozenset())


def write_embeddings(
    request: Mapping[str, Any], rules: RequestRules, left_out: Collection[TransportField] = ()
) -> dict[str, Any]:
    """Write an embeddings request. `left_out` are fields that the provider has refused."""
    body = _passed(request, EMBEDDINGS_FIELDS, rules)
    if TransportField.ENCODING_FORMAT not in left_out:
        body["encoding_format"] = rules.embedding_encoding.value
    return body


def _passed(request: Mapping[str, Any], known: frozenset[str], rules: RequestRules) -> dict[str, Any]:
    """Return the fields that are sent as they are."""
    dropped = TAILRACE_FIELDS | {TransportField.STREAM, TransportField.ENCODING_FORMAT}
    return {
        name: value for name, value in request.items() if name not in dropped and (rules.pass_unknown or name in known)
    }


def _name_limit(body: dict[str, Any], field: MaxTokensField) -> None:
    """Give the limit of the answer in this field, whichever the caller used; if both, in this one as it is."""
    for other in MaxTokensField:
        if other is not field and other in body:
            limit = body.pop(other)
            if body.get(field) is None:
                body[field.value] = limit


def _renamed(message: Any, role: DeveloperRole) -> Any:
    if isinstance(message, dict) and message.get("role") == "developer":
        return {**message, "role": role.value}
    return message
