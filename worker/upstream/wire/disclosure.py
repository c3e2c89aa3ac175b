"""An upstream's error as its caller may see it, and the words that only the log may have.

Words about the request are shown, without keys, owners and addresses. Words about the provider, or about this
gateway's account there, are replaced by fixed sentences. Pure. Not here: the meaning of an error (refusal_codes.py).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from shared.model.bounds import SENTENCE_CHARS
from shared.model.errors import AttemptFailed, ProviderRefused, ProviderTimeout
from shared.model.routes import MaxTokensField
from worker.upstream.wire.quotation import quoted
from worker.upstream.wire.redaction import without_keys, without_private_parts
from worker.upstream.wire.refusal_codes import TIMEOUT
from worker.upstream.wire.refusals import Refusal

# Reasons that are the request's own. `provider_error` is any error of no known kind.
_ABOUT_THE_REQUEST: Final = frozenset(
    {"invalid_request", "context_length_exceeded", "content_policy_violation", "model_not_found", "provider_error"}
)
_FIXED: Final = {
    "upstream_auth": "it does not accept this gateway's credentials",
    "insufficient_quota": "this gateway's account there has no quota left",
    "rate_limit_exceeded": "it takes no more requests just now",
    "provider_overloaded": "it is overloaded",
    "server_error": "it failed",
    TIMEOUT: "something behind it took too long",
}
_HIDDEN_REASON: Final = "its reason is in this gateway's log"
# Words for failures that hold nothing about any account.
_HARMLESS: Final = frozenset(
    {"provider returned error", "provider disconnected", "overloaded", "internal server error", "bad gateway"}
    | {"service unavailable", "gateway timeout", "too many requests", "rate limit exceeded", "slow down"}
)
_OUR_OWN: Final = re.compile(r"The answer broke off \(finish reason \w{1,64}\)\.")
# These may come under any code, with any status.
_ABOUT_THE_ACCOUNT: Final = re.compile(
    r"\b(?:your|this|the) (?:[\w-]+ )?(?:account|organi[sz]ation|billing|subscription|credits?|plan|quota|tenant)\b"
    r"|\bbilling\b|\bapi[ _-]?keys?\b|\bcredit (?:balance|card)\b|\bpayment\b|\binvoice|\bsubscription\b"
    r"|\bcredentials?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Disclosed:
    """An error for the caller. `hidden` are the upstream's words for the log, if the caller does not see them all."""

    error: AttemptFailed
    hidden: str = ""


@dataclass(frozen=True)
class SentRequest:
    """The request that an upstream speaks about, as its caller sent it."""

    request: Mapping[str, Any]

    def has(self, text: str) -> bool:
        """Return whether the text stands in the request."""
        return text in self._text

    def param(self, refusal: Refusal) -> str | None:
        """Return the field that is blamed, as the caller spells it; None if the caller has not sent it."""
        if refusal.param is None:
            return None
        field = refusal.fields[0]
        if field in self.request:
            return refusal.param
        limits = [each.value for each in MaxTokensField]
        return next((each for each in limits if each in self.request), None) if field in limits else None

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.request, ensure_ascii=False)


def disclose(
    refusal: Refusal,
    provider: str,
    asked: SentRequest,
    *,
    secret: str | None = None,
    retry_after_s: float | None = None,
) -> Disclosed:
    """Return the error of an attempt that ended with this refusal. `secret` is our key at the provider."""
    reason = _reason(refusal, secret, asked.has)
    whole = quoted(without_keys(refusal.said, secret))
    answered = f"The provider {provider} answered with {refusal.status or 'an error'}"
    sentence = f"{answered}: {reason}" if reason else f"{answered}."
    hidden = "" if reason == whole else whole
    if refusal.code == TIMEOUT:
        return Disclosed(ProviderTimeout(sentence), hidden)
    param = asked.param(refusal)
    return Disclosed(ProviderRefused(sentence, code=refusal.code, param=param, retry_after_s=retry_after_s), hidden)


def _reason(refusal: Refusal, secret: str | None, is_asked: Callable[[str], bool]) -> str:
    said = quoted(refusal.said)
    if said.rstrip(".!").lower() in _HARMLESS or _OUR_OWN.fullmatch(said):
        return said
    if refusal.code not in _ABOUT_THE_REQUEST:
        return f"{_FIXED[refusal.code]}."
    if _ABOUT_THE_ACCOUNT.search(said):
        return f"{_HIDDEN_REASON}."
    return quotation(refusal.said, is_asked, secret)


def quotation(text: str, is_asked: Callable[[str], bool], secret: str | None, most: int = SENTENCE_CHARS) -> str:
    """Return the beginning of an upstream's words, fit for callers' eyes; nothing of words about the account."""
    if _ABOUT_THE_ACCOUNT.search(quoted(text)):
        return ""
    return quoted(without_private_parts(text, secret, is_asked), most=most)
