"""Test the removal of a proxy's path prefix from a request's path."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.path_prefix import PathPrefix


async def served_path(path: str, *, raw: bytes | None = None, kind: str = "http") -> tuple[str, bytes]:
    """Return the paths under which the application is asked for `path`."""
    seen: list[tuple[str, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["raw_path"]))

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    await PathPrefix(app, "/llm")({"type": kind, "path": path, "raw_path": raw or path.encode()}, receive, send)
    return seen[0]


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/llm/v1/jobs", "/v1/jobs"),
        ("/llm/", "/"),
        ("/llm/llm/x", "/llm/x"),
        ("/v1/jobs", "/v1/jobs"),
        ("/llm", "/llm"),
        ("/llmx/v1", "/llmx/v1"),
    ],
)
async def test_a_path_below_the_prefix_is_served_without_it(path: str, inside: str) -> None:
    assert await served_path(path) == (inside, inside.encode())


async def test_the_raw_path_keeps_its_escapes() -> None:
    assert await served_path("/llm/a b", raw=b"/llm/a%20b") == ("/a b", b"/a%20b")


async def test_other_messages_than_requests_pass() -> None:
    assert await served_path("/llm/x", kind="lifespan") == ("/llm/x", b"/llm/x")
