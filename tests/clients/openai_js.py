"""OpenAI's JavaScript client, as a process of Node: js/openai.js takes one command a line.

It drives npm's `openai`, unchanged. Methods are named as in JavaScript, so that a new one needs nothing here. Not here:
expectations (test_openai_js.py).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.clients.node import Program


class Raised(Exception):
    """The exception of the client: the name of its class, and the fields that its callers read."""

    def __init__(self, sent: int, fields: dict[str, Any]) -> None:
        super().__init__(fields["message"])
        self.sent = sent
        """How many requests it took."""
        self.kind: str = fields["class"]
        self.status: int | None = fields.get("status")
        self.code: str | None = fields.get("code")
        self.param: str | None = fields.get("param")
        self.type: str | None = fields.get("type")
        self.request_id: str | None = fields.get("requestID")


class Helped(NamedTuple):
    """A helper's events, and the final values of its methods."""

    events: list[Any]
    final: dict[str, Any]


class OpenAiJs:
    """The client. Each method raises `Raised`; `options` are the client's own, for this call."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def call(self, path: str, *given: Any, **options: Any) -> Any:
        """Call a method and return its value, as in `call("chat.completions.create", {...})`."""
        return await self._do("call", **_call(path, given, options))

    async def all(self, calls: Sequence[tuple[str, dict[str, Any]]], **options: Any) -> list[Any]:
        """Make several calls at once; return each one's value or exception."""
        answers = await self._do("all", calls=[_call(path, [body], options) for path, body in calls])
        return [Raised(each["sent"], each["error"]) if "error" in each else each["value"] for each in answers]

    async def begin(self, path: str, *given: Any, **options: Any) -> None:
        """Begin a call that may be aborted; `end` returns its result."""
        await self._do("begin", **_call(path, given, options))

    async def abort(self) -> None:
        """Abort the call, or the stream, that was begun last."""
        await self._do("abort")

    async def end(self) -> Any:
        """Return the result of the call that was begun."""
        return await self._do("end")

    async def open(self, path: str, *given: Any, **options: Any) -> dict[str, str]:
        """Open a stream; its headers."""
        headers: dict[str, str] = await self._do("open", **_call(path, given, options))
        return headers

    async def read(self, most: int | None = None, **until: Any) -> list[Any]:
        """Return the open stream's events: so many, up to one with these fields, or all."""
        events: list[Any] = await self._do("read", **({"most": most} if most else {}), until=until or None)
        return events

    async def leave(self) -> None:
        """Break out of the loop that reads the open stream."""
        await self._do("leave")

    async def helped(self, path: str, *given: Any, final: Sequence[str], **options: Any) -> Helped:
        """Run a helper like `chat.completions.stream()` on a stream; `final` are methods of it."""
        return Helped(**await self._do("helped", **_call(path, given, options), final=list(final)))

    async def _do(self, name: str, **command: Any) -> Any:
        answer = await self._program.do(name, **command)
        if "error" in answer:
            raise Raised(answer["sent"], answer["error"])
        return answer["value"]


def _call(path: str, given: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    return {"path": path, "with": list(given), "options": options}
