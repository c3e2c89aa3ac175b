"""The meaning of an upstream's error: from its status, its names and its words to one code of shared/model/errors.

Names that mean one thing come first, then words, then the HTTP status; a name that any error may have comes last. Pure.
Not here: the places of these in an answer (refusals.py).
"""

import re
from collections.abc import Sequence

TIMEOUT = "provider_timeout"
"""The one code that is not in REFUSALS: the upstream waited too long for something behind it."""

_READ_CHARS = 4000

# Names are compared without case and separators: `RateLimitError` and `rate_limit_error` are one.
_PRECISE = {
    "context_length_exceeded": (
        *("contextlengthexceeded", "exceedcontextsizeerror", "contextwindowexceeded", "contextwindowexceedederror"),
        *("modelcontextwindowexceeded", "contextlengthexceedederror"),
    ),
    "content_policy_violation": (
        *("contentfilter", "contentpolicyviolation", "contentpolicyviolationerror", "responsibleaipolicyviolation"),
        *("moderationblocked", "datainspectionfailed", "contentfiltererror"),
    ),
    "model_not_found": ("modelnotfound", "modelnotfounderror", "deploymentnotfound", "modeldecommissioned"),
    "insufficient_quota": (
        *("insufficientquota", "billinghardlimitreached", "billingnotactive", "billingerror", "paymentrequired"),
        *("exceededcurrentquotaerror", "insufficientbalance", "insufficientcredits", "arrearage"),
    ),
    "rate_limit_exceeded": (
        *("ratelimitexceeded", "ratelimiterror", "ratelimited", "ratelimitreachederror", "toomanyrequests"),
        *("resourceexhausted", "throttling", "throttlingexception", "throttlingratequota", "throttlingallocationquota"),
    ),
    "upstream_auth": (
        *("invalidapikey", "authenticationerror", "invalidauthenticationerror", "unauthenticated", "unauthorized"),
        *("permissionerror", "permissiondenied", "permissiondeniederror", "accessdenied", "forbidden"),
    ),
}
_GENERAL = {
    "provider_overloaded": (
        *("overloaded", "overloadederror", "engineoverloaded", "engineoverloadederror", "serveroverloaded"),
        *("serviceunavailable", "serviceunavailableerror", "unavailable", "serverbusy", "insufficientsystemresource"),
    ),
    TIMEOUT: ("timeout", "timeouterror", "requesttimeout", "gatewaytimeout", "deadlineexceeded"),
    "server_error": ("servererror", "internalservererror", "internalerror", "internal", "apierror", "networkerror"),
}
_VAGUE = {
    "model_not_found": ("notfound", "notfounderror"),
    "invalid_request": (
        *("invalidrequest", "invalidrequesterror", "badrequest", "badrequesterror", "invalidparameter"),
        *("invalidparametererror", "invalidargument", "validationerror", "validation", "unprocessableentityerror"),
        *("unsupportedparameter", "unsupportedvalue", "invalidvalue", "unknownparameter", "missingrequiredparameter"),
    ),
}


def _by_name(table: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: code for code, names in table.items() for name in names}


_PRECISE_NAMES, _GENERAL_NAMES, _VAGUE_NAMES = _by_name(_PRECISE), _by_name(_GENERAL), _by_name(_VAGUE)

_STATUSES = {
    400: "invalid_request",
    401: "upstream_auth",
    402: "insufficient_quota",
    403: "upstream_auth",
    404: "model_not_found",
    408: TIMEOUT,
    409: "server_error",
    413: "invalid_request",
    422: "invalid_request",
    429: "rate_limit_exceeded",
    503: "provider_overloaded",
    504: TIMEOUT,
    529: "provider_overloaded",
}

MINIMAX = {
    1001: TIMEOUT,
    1002: "rate_limit_exceeded",
    1004: "upstream_auth",
    1008: "insufficient_quota",
    1026: "content_policy_violation",
    1027: "content_policy_violation",
    1039: "rate_limit_exceeded",
    2013: "invalid_request",
    2049: "upstream_auth",
}
"""MiniMax's `base_resp.status_code`; others are its own trouble."""

# A limit on tokens over time is not a limit on tokens in a request.
_OVER_TIME = re.compile(
    r"\bper[ -](?:second|minute|min|hour|day)\b|\b[tr]p[msd]\b|rate.?limit|too many requests|"
    r"\b(?:retry|try again) (?:in|after)\b|please wait",
    re.IGNORECASE,
)
_OVERFLOW = re.compile(
    r"context[ _](?:length|window|size|limit)\b.{0,60}\b(?:exceed|overflow|is only|of only)"
    r"|(?:exceed|longer than|greater than|too (?:long|large) for|larger than|beyond|overflow).{0,80}"
    r"\b(?:context|model length|sequence length)\b"
    r"|maximum (?:context|model|prompt|input|sequence) length"
    r"|prompt (?:is )?too long|input (?:is )?too long|input length and `?max_tokens`? exceed"
    r"|is too large to process|prompt exceeds (?:the )?max"
    r"|input token count.{0,40}exceeds|exceeds the maximum number of tokens"
    r"|prompt token count.{0,40}exceeds|input tokens exceed|exceeded model token limit"
    r"|reduce the length of (?:the messages|your prompt|the prompt)"
    r"|must have less than \d+ tokens|max_new_tokens`? must be <=|range of input length should be"
    r"|too many (?:input )?tokens|token limit exceeded"
    # SGLang, and vLLM for the room that is left. A caller may ask for -1 tokens itself.
    r"|input length .{0,40}\bexceeds the maximum allowed length"
    r"|max_tokens must be at least 1, got -(?!1\b)\d",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"content management policy|content policy|usage policy|safety system|inappropriate content|content exists risk"
    r"|requires moderation|was flagged|sensitive content",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"(?:exceeded|check) your (?:current )?(?:quota|plan)|insufficient (?:balance|credits?|quota|funds)"
    r"|credit balance is too low|out of credits|requires more credits",
    re.IGNORECASE,
)
_KEY = re.compile(r"api key (?:not valid|is invalid|expired)|(?:invalid|incorrect) api key", re.IGNORECASE)
_MODEL = re.compile(
    r"not a valid model|invalid model(?: name)?:|model not exist|model .{0,200}(?:does not exist|not found)",
    re.IGNORECASE,
)
# By its words, an error of these statuses can turn out to be something more precise.
_WORDS: tuple[tuple[re.Pattern[str], str, frozenset[int | None]], ...] = (
    (_OVERFLOW, "context_length_exceeded", frozenset({None, 400, 404, 413, 422, 500})),
    (_POLICY, "content_policy_violation", frozenset({None, 400, 403, 422, 451})),
    (_QUOTA, "insufficient_quota", frozenset({None, 400, 402, 403, 429})),
    (_KEY, "upstream_auth", frozenset({None, 400})),
    (_MODEL, "model_not_found", frozenset({None, 400})),
)
_NOT_OVER_TIME = ("context_length_exceeded", "insufficient_quota")
# Below it, a status says more than a name like `api_error`.
_PASSING_FROM = 429


def code_of(status: int | None, names: Sequence[str], words: str, otherwise: str = "provider_error") -> str:
    """Return the code of an error: one of REFUSALS, or TIMEOUT. `otherwise` is that of an error that says nothing."""
    squashed = ["".join(each for each in name.lower() if each.isalnum()) for name in names]
    general = _first(squashed, _GENERAL_NAMES) if status is None or status >= _PASSING_FROM else None
    return (
        _first(squashed, _PRECISE_NAMES)
        or _by_words(status, words[:_READ_CHARS])
        or general
        or _by_status(status)
        or _first(squashed, _VAGUE_NAMES)
        or otherwise
    )


def as_status(code: object) -> int | None:
    """Return an error's code as an HTTP status, if it can be one."""
    if isinstance(code, bool) or not isinstance(code, int | str) or len(str(code)) != 3:
        return None
    return int(code) if str(code).isdecimal() and str(code).isascii() and 400 <= int(code) <= 599 else None


def _first(names: Sequence[str], table: dict[str, str]) -> str | None:
    return next((table[name] for name in names if name in table), None)


def _by_status(status: int | None) -> str | None:
    if status is not None and status >= 500:
        return _STATUSES.get(status, "server_error")
    return _STATUSES.get(status or 0)


def _by_words(status: int | None, words: str) -> str | None:
    over_time = _OVER_TIME.search(words)
    for pattern, code, statuses in _WORDS:
        if status in statuses and pattern.search(words) and not (over_time and code in _NOT_OVER_TIME):
            return code
    return None
