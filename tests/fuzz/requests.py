"""Requests of a seed: to each route, by each caller, with addresses, headers and bodies that are good or nearly so."""

from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from starlette.routing import Route

from gateway.app import ROUTES
from tests.fuzz.hostile import NUMBERS, TEXTS, changed, encoded

CALLERS: dict[str, str | None] = {"alice": "sk-alice", "bob": "sk-bob", "root": "sk-root", "": None}
"""Tenants and their keys; a stranger has neither."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
_USER = {"role": "user", "content": "a"}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_CHAT = [
    {"model": "mock", "messages": [_USER]},
    {"model": "mock", "messages": [_USER], "stream": True, "stream_options": {"include_usage": True}},
    {
        "model": "mock",
        "messages": [{"role": "system", "content": "a"}, _USER, {"role": "assistant", "tool_calls": [_CALL]}],
        "tools": [_TOOL],
        "tool_choice": "auto",
    },
    {
        "model": "mock",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        "n": 2,
        "stop": ["b"],
    },
]
_RESPONSES = [
    {"model": "mock", "input": "a", "background": True},
    {"model": "mock", "input": "a", "stream": True, "store": False},
    {
        "model": "mock",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
        ],
        "tools": [{"type": "function", "name": "f"}, {"type": "namespace", "name": "n", "tools": []}],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_object"}},
        "include": ["reasoning.encrypted_content"],
    },
    {"model": "mock", "input": [{"type": "item_reference", "id": "ID"}]},
    {"model": "mock", "input": "a", "previous_response_id": "ID"},
]
_PARTS = [{"type": "text", "text": "a"}, {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA"}]
_PAGES = [
    {"id": "c1", "model": "mock", "messages": [{"id": "m1", "role": "user", "parts": _PARTS}]},
    {"id": "c1", "model": "mock", "message": {"id": "m2", "role": "user", "parts": _PARTS[:1]}},
    {
        "id": "c2",
        "model": "mock",
        "messages": [
            {"id": "m1", "role": "user", "parts": _PARTS[:1]},
            {
                "id": "m2",
                "role": "assistant",
                "parts": [
                    {"type": "step-start"},
                    {"type": "tool-f", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1},
                ],
            },
        ],
        "trigger": "submit-message",
    },
]
BODIES: dict[str, list[Any]] = {
    "/v1/jobs": [
        *_CHAT,
        {"model": "mock", "messages": [_USER], "lane": "default", "timeout_s": 5, "metadata": {"a": "b"}},
        {"kind": "embeddings", "model": "mock", "input": ["a", "b"]},
    ],
    "/v1/chat/completions": _CHAT,
    "/v1/completions": [{"model": "mock", "prompt": "a"}, {"model": "mock", "prompt": ["a"], "stream": True}],
    "/v1/embeddings": [{"model": "mock", "input": "a"}, {"model": "mock", "input": [[1, 2], [3]], "dimensions": 4}],
    "/tasks": _CHAT,
    "/tasks/chat/completions": _CHAT,
    "/tasks/embeddings": [{"model": "mock", "input": "a"}],
    "/v1/responses": _RESPONSES,
    "/api/chat": _PAGES,
    "/api/chat/{chat_id:path}/stop": [{}, {"activeStreamId": "ID"}],
    "/v1/dead-letters/requeue": [{"ids": ["ID"]}],
}
_QUERIES = (
    *("limit", "after", "status", "kind", "order", "stream", "starting_after", "last_event_id", "token", "tenant"),
    *("model", "encoding_format", "code", "lane", "all", "before", "include", "x"),
)
_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Idempotency-Key", ("a", '"a"', "", "k" * 300, "é", "a b")),
    ("X-Tailrace-Lane", ("default", "high", "", "nowhere")),
    ("X-Tailrace-On-Disconnect", ("continue", "cancel", "maybe")),
    ("X-Tailrace-Abandon-After", ("1", "-1", "1e9", "nan", "x")),
    ("X-Tailrace-On-Stream-Failure", ("rollback", "fail", "x")),
    ("Last-Event-ID", ("0", "-1", "1-1", "9-9", "a", "99999999999999999999-1")),
    ("X-Request-Id", ("abc", "a b", "\x9b2J", "x" * 500)),
    ("Content-Type", ("application/json", "text/plain", "application/json; charset=utf-16", "")),
    ("Accept", ("text/event-stream", "application/json", "*/*", "x/y")),
    ("Accept-Encoding", ("gzip", "identity;q=0", "br")),
    ("Origin", ("https://evil.example", "null", "")),
    ("If-None-Match", ("*", '"a"')),
    ("Range", ("bytes=0-1", "bytes=5-")),
    ("X-Stainless-Retry-Count", ("0", "3", "x")),
    ("Content-Encoding", ("gzip", "identity")),
)
_WRONG_KEYS = ("Bearer sk-nobody", "Bearer ", "Basic c2s=", "sk-alice", "Bearer sk-alice\x9b")


@dataclass(frozen=True)
class Asked:
    """One request. `caller` is a tenant's name, or empty."""

    caller: str
    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def path(self) -> str:
        """Return the address without its query."""
        return self.target.partition("?")[0]


class Requests:
    """The requests of a seed. `known` are the ids of jobs that exist, and `add` names more of them."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._known: list[str] = []
        self._routes = sorted(
            (route.path, method)
            for route in ROUTES
            if isinstance(route, Route)
            for method in route.methods or ()
            if method != "HEAD"
        )

    def add(self, job_id: str) -> None:
        """Remember a job, so that later requests name it."""
        self._known = [*self._known[-50:], job_id]

    def next(self) -> Asked:
        """Return the next request."""
        rng = self._rng
        template, method = rng.choice(self._routes)
        caller = rng.choice((*CALLERS, "alice", "bob"))
        if rng.random() < 0.05:
            method = rng.choice(_METHODS)
        target = self._target(template)
        headers = {name: rng.choice(values) for name, values in rng.sample(_HEADERS, rng.choice((0, 0, 1, 2, 4)))}
        if not caller and rng.random() < 0.5:
            headers["Authorization"] = rng.choice(_WRONG_KEYS)
        return Asked(caller, method, target, headers, self._body(template) if method not in ("GET", "HEAD") else None)

    def _body(self, template: str) -> bytes:
        rng = self._rng
        bodies = BODIES.get(template)
        if bodies is None:
            return b"" if rng.random() < 0.8 else encoded({"a": 1}, rng)
        body = changed(rng.choice(bodies), rng, rng.choice((0, 0, 1, 1, 2, 4)))
        return encoded(body, rng).replace(b'"ID"', f'"{self._id()}"'.encode())

    def _target(self, template: str) -> str:
        rng = self._rng
        path = "/".join(
            quote(self._id(), safe="" if rng.random() < 0.5 else "/") if "{" in part else part
            for part in template.split("/")
        )
        if rng.random() < 0.03:
            path += rng.choice(("/", "//", "/..", "/%2e%2e/", ";a", "%00", "/a/b"))
        if rng.random() < 0.7:
            return path
        values = (*TEXTS, *map(str, NUMBERS), self._id())
        names = rng.choices(_QUERIES, k=rng.randrange(1, 4))
        return path + "?" + "&".join(f"{name}={quote(rng.choice(values))}" for name in names)

    def _id(self) -> str:
        """Return an id of something, in any dialect, or any text."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.2:
            return rng.choice(TEXTS)[:600] or "a"
        bare = "".join(rng.choices("0123456789abcdefghjkmnpqrstvwxyz", k=26))
        if kind < 0.8 and self._known:
            bare = rng.choice(self._known).removeprefix("job_")
        return rng.choice(("job_", "job_", "resp_", "resp_", "chatcmpl-", "cmpl-", "msg_", "c1")) + bare
