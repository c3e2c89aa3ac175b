"""OpenAI's two Python clients behind one interface, so that each test runs with both.

The official clients are unchanged but for their address and key. The synchronous one works in a thread of its own. Not
here: expectations (test_openai_sdk.py and others).
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from openai import AsyncOpenAI, OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.clients.system import KEY, System

# Everything that a careless framing, or a client's idea of a line, would break on.
BREAKS_FRAMES = (
    "a\n\nb\r\n\r\nc\rd\u2028e\u2029f\u0085g\v\f\x1c\x1e data: [DONE]\n\ndata: {}\n: hb\nevent: error\nid: 0\n"
    'retry: 1\n\n\ufeff\x00\x7f "\\" \\u0041 \\n 東京 👩🏽\u200d🚀 \U0010ffff שלום e\u0301'
)
WEATHER = {"city": "Łódź", "note": 'say "hi"\n{}', "days": [1, 2, 3]}
CALL = {"name": "weather", "arguments": WEATHER}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
HELLO = [{"role": "user", "content": "Hello"}]


class OpenStream:
    """A stream that is being read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def headers(self) -> Any:
        """Return the response's headers."""
        return self._stream.response.headers

    async def next(self) -> Any:
        """Return the next chunk or event; None at the end. Raises the client's exceptions."""
        if hasattr(self._stream, "__anext__"):
            return await anext(self._stream, None)
        return await asyncio.to_thread(next, self._stream, None)

    async def rest(self) -> list[Any]:
        """Return the chunks or events from here to the end."""
        chunks = []
        while chunk := await self.next():
            chunks.append(chunk)
        return chunks

    async def until_text(self, wanted: str) -> None:
        """Continue to read until this is the text of the first choice."""
        said = ""
        while said != wanted:
            chunk = await self.next()
            assert chunk is not None, said
            said += text_of([chunk])
            assert wanted.startswith(said)

    async def close(self) -> None:
        """Leave."""
        await _done(self._stream.close)


class Sdk:
    """`OpenAI` or `AsyncOpenAI`."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self.client: Any = client

    def with_options(self, **options: Any) -> Self:
        """Return the same with other options; it shares the connections."""
        return type(self)(self.client.with_options(**options))

    async def create(self, **parameters: Any) -> ChatCompletion:
        """`chat.completions.create`."""
        completion = await _done(lambda: self.client.chat.completions.create(**parameters))
        assert isinstance(completion, ChatCompletion)
        return completion

    async def raw(self, **parameters: Any) -> Any:
        """`chat.completions.with_raw_response.create`."""
        return await _done(lambda: self.client.chat.completions.with_raw_response.create(**parameters))

    @asynccontextmanager
    async def stream(self, **parameters: Any) -> AsyncIterator[OpenStream]:
        """`chat.completions.create` with `stream=True`; it is closed at the end."""
        stream = OpenStream(await _done(lambda: self.client.chat.completions.create(stream=True, **parameters)))
        try:
            yield stream
        finally:
            await stream.close()

    async def chunks(self, **parameters: Any) -> list[ChatCompletionChunk]:
        """Return all chunks of a stream."""
        async with self.stream(**parameters) as stream:
            return await stream.rest()

    async def helped(self, **parameters: Any) -> tuple[list[Any], Any]:
        """`chat.completions.stream()`: the helper's events, and the completion that it made of them."""
        manager = self.client.chat.completions.stream(**parameters)
        if isinstance(self.client, AsyncOpenAI):
            async with manager as helper:
                return [event async for event in helper], await helper.get_final_completion()

        def read() -> tuple[list[Any], Any]:
            with manager as helper:
                return list(helper), helper.get_final_completion()

        return await asyncio.to_thread(read)

    async def complete(self, **parameters: Any) -> Any:
        """`completions.create`: the whole answer, or all chunks of the stream."""
        answer = await _done(lambda: self.client.completions.create(**parameters))
        if not parameters.get("stream"):
            return answer
        stream = OpenStream(answer)
        try:
            return await stream.rest()
        finally:
            await stream.close()

    async def respond(self, **parameters: Any) -> Any:
        """`responses.create`."""
        return await _done(lambda: self.client.responses.create(**parameters))

    async def retrieve(self, response_id: str, **parameters: Any) -> Any:
        """`responses.retrieve`."""
        return await _done(lambda: self.client.responses.retrieve(response_id, **parameters))

    async def cancel_response(self, response_id: str) -> Any:
        """`responses.cancel`."""
        return await _done(lambda: self.client.responses.cancel(response_id))

    async def delete_response(self, response_id: str) -> Any:
        """`responses.delete`."""
        return await _done(lambda: self.client.responses.delete(response_id))

    async def input_items(self, response_id: str, **parameters: Any) -> list[Any]:
        """`responses.input_items.list`, all pages of it."""
        if isinstance(self.client, AsyncOpenAI):
            return [item async for item in self.client.responses.input_items.list(response_id, **parameters)]
        return await asyncio.to_thread(lambda: list(self.client.responses.input_items.list(response_id, **parameters)))

    @asynccontextmanager
    async def responding(self, response_id: str | None = None, **parameters: Any) -> AsyncIterator["OpenStream"]:
        """Provide the events of a new response, or of an old one; it is closed at the end."""
        if response_id is None:
            stream = OpenStream(await self.respond(stream=True, **parameters))
        else:
            stream = OpenStream(await self.retrieve(response_id, stream=True, **parameters))
        try:
            yield stream
        finally:
            await stream.close()

    async def helped_response(self, **parameters: Any) -> tuple[list[Any], Any]:
        """`responses.stream()`: the helper's events, and the response that it made of them."""
        manager = self.client.responses.stream(**parameters)
        if isinstance(self.client, AsyncOpenAI):
            async with manager as helper:
                return [event async for event in helper], await helper.get_final_response()

        def read() -> tuple[list[Any], Any]:
            with manager as helper:
                return list(helper), helper.get_final_response()

        return await asyncio.to_thread(read)

    async def embed(self, **parameters: Any) -> CreateEmbeddingResponse:
        """`embeddings.create`."""
        answer = await _done(lambda: self.client.embeddings.create(**parameters))
        assert isinstance(answer, CreateEmbeddingResponse)
        return answer

    async def raw_embed(self, **parameters: Any) -> Any:
        """`embeddings.with_raw_response.create`."""
        return await _done(lambda: self.client.embeddings.with_raw_response.create(**parameters))

    async def models(self) -> list[Any]:
        """`models.list`, all pages of it."""
        page = await _done(self.client.models.list)
        return list(page.data)

    async def model(self, name: str) -> Any:
        """`models.retrieve`."""
        return await _done(lambda: self.client.models.retrieve(name))

    async def close(self) -> None:
        """Close the connections."""
        await _done(self.client.close)


async def _done(call: Callable[[], Any]) -> Any:
    """Return the result of either client's method."""
    # Nothing is sent before the asynchronous client's result is awaited, so its call may happen in a thread too.
    result = await asyncio.to_thread(call)
    return await result if inspect.isawaitable(result) else result


def text_of(chunks: list[ChatCompletionChunk], choice: int = 0) -> str:
    """Return the text of a choice."""
    return "".join(each.delta.content or "" for chunk in chunks for each in chunk.choices if each.index == choice)


def finish_of(chunks: list[ChatCompletionChunk], choice: int = 0) -> list[str]:
    """Return a choice's finish reasons: one, in a good stream."""
    return [
        each.finish_reason for chunk in chunks for each in chunk.choices if each.index == choice and each.finish_reason
    ]


@asynccontextmanager
async def client_of(kind: str, system: System, **options: Any) -> AsyncIterator[Sdk]:
    """Open a client of this system."""
    make = OpenAI if kind == "OpenAI" else AsyncOpenAI
    sdk = Sdk(make(**{"base_url": system.base_url, "api_key": KEY, **options}))
    try:
        yield sdk
    finally:
        await sdk.close()
