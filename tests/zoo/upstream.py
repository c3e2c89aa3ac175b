"""Serve a small chat upstream that checks requests strictly and, for some model names, answers loosely.

`python -m tests.zoo.upstream` prints its base URL and ends itself after `--for` seconds. `MODELS` are its models.
`GET /requests` shows each request with the answer's status and error, and whether the error was that state had not been
sent back; `DELETE /requests` forgets them.
"""

import argparse
import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.zoo import speech
from tests.zoo.answers import answer_to
from tests.zoo.speech import Manner
from tests.zoo.strictness import DEEPSEEK, GEMINI, MISTRAL, OPENAI, UNVERIFIED, Refusal, Vendor, check

MODELS: dict[str, tuple[Vendor, Manner]] = {
    "openai": (OPENAI, speech.PLAIN),
    "openai-unverified": (UNVERIFIED, speech.PLAIN),
    "deepseek": (DEEPSEEK, speech.THINKING),
    "gemini": (GEMINI, speech.SAME_INDEX),
    "gemini-plain": (GEMINI, speech.SIGNED),
    "mistral": (MISTRAL, speech.PARTS),
    "loose-unnumbered": (OPENAI, speech.UNNUMBERED),
    "loose-late-name": (OPENAI, speech.LATE_NAME),
    "loose-whole": (OPENAI, speech.WHOLE),
}
"""Each model, with its strictness and its manner of speaking."""
ALIASES = {
    "gpt-4o": "openai",
    "gpt-4o-mini": "deepseek",
    "gpt-4.1": "gemini",
    "gpt-4.1-mini": "mistral",
    "gpt-4.1-nano": "loose-unnumbered",
    "gpt-4-turbo": "loose-late-name",
    "gpt-4": "loose-whole",
    "gpt-3.5-turbo": "gemini-plain",
    "gpt-4o-2024-08-06": "openai-unverified",
}
"""Names for the same models that LlamaIndex' OpenAI class knows: it takes no others."""


@dataclass
class _Seen:
    body: Any
    status: int = 200
    error: Any = None
    state: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"body": self.body, "status": self.status, "error": self.error, "state": self.state}


@dataclass
class Upstream:
    """The requests it has seen."""

    seen: list[_Seen] = field(default_factory=list)

    def app(self) -> Starlette:
        """Its HTTP face."""
        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/requests", self._show),
            Route("/requests", self._forget, methods=["DELETE"]),
        ]
        return Starlette(routes=routes)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})

    async def _show(self, request: Request) -> Response:
        return JSONResponse([seen.as_dict() for seen in self.seen])

    async def _forget(self, request: Request) -> Response:
        self.seen.clear()
        return JSONResponse(None)

    async def _complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        seen = _Seen(body)
        self.seen.append(seen)
        name = ALIASES.get(body.get("model"), body.get("model"))
        if name not in MODELS:
            seen.status, seen.error = 404, {"error": {"message": "No such model.", "code": "model_not_found"}}
            return JSONResponse(seen.error, seen.status)
        vendor, manner = MODELS[name]
        try:
            check(body, vendor)
        except Refusal as refusal:
            seen.status, seen.error = vendor.error(refusal)
            seen.state = refusal.state
            return JSONResponse(seen.error, seen.status)
        answer = answer_to(body)
        if not body.get("stream"):
            return JSONResponse(manner.completion(answer))
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(_paced(manner.stream(answer, usage=usage)), media_type="text/event-stream")


def _paced(frames: Iterator[bytes]) -> Any:
    async def each() -> Any:
        for frame in frames:
            if frame:
                yield frame
                await asyncio.sleep(0)

    return each()


async def serve(seconds: float) -> None:
    """Serve on a free port of 127.0.0.1 until a signal comes, for at most so long; print the base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(Upstream().app(), log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(server.serve(sockets=[listener]), seconds)


def _main() -> None:
    parser = argparse.ArgumentParser(description="A strict chat upstream on 127.0.0.1.")
    parser.add_argument("--for", type=float, default=3600, dest="seconds", help="it ends itself after so long")
    options = parser.parse_args()
    asyncio.run(serve(options.seconds))


if __name__ == "__main__":
    _main()
