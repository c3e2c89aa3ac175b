"""An upstream that speaks OpenAI's chat completions and embeddings.

worker/upstream/wire/request_writer.py writes, http_upstream.py sends, worker/upstream/wire/answers.py reads. Not here:
time-outs (worker/upstream/chain.py; only that for a connection is set by http_upstream.py), and retries, except the one
without a transport field that the upstream refuses.
"""

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import httpx2
import structlog

from shared.model.bounds import EVENT_BYTES
from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderTimeout
from shared.model.routes import RequestRules
from worker.upstream.providers.http_upstream import HttpUpstream, drain
from worker.upstream.providers.openai_caller import OpenAICaller
from worker.upstream.wire.answers import ChatAnswer, DocumentAnswer
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.disclosure import SentRequest
from worker.upstream.wire.refusals import Refused, refusal_of
from worker.upstream.wire.request_writer import has_callers_options, state_fields, write_chat, write_embeddings
from worker.upstream.wire.transport_fields import Blame, LeftOut, TransportField, blamed
from worker.upstream.wire.vectors import Vectors, read_vectors

log = structlog.get_logger()

MODELS_S = 10.0

_SEED_BYTES = 8

Write = Callable[[Mapping[str, Any], RequestRules, frozenset[TransportField]], dict[str, Any]]
"""Write the body of a request without some transport fields."""


class OpenAICompatible:
    """The upstream at `base_url`, as in `https://api.openai.com/v1`. A local server may need no `api_key`."""

    def __init__(self, name: str, base_url: str, api_key: str | None = None, rules: RequestRules | None = None) -> None:
        """Make the client; nothing is sent yet.

        Raises:
            StartupError: the address or the key can't be one.
        """
        self._http = HttpUpstream(name, base_url, api_key, partial(OpenAICaller, base_url, api_key))
        self._rules = rules or RequestRules()
        self._left_out = LeftOut()

    @property
    def name(self) -> str:
        """Return its name in `started` events and logs."""
        return self._http.name

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Send a chat request, when the first chunk is asked for.

        Raises:
            ProviderUnreachable: the connection could not be made, or broke.
            ProviderRefused: the answer is an error, or one comes in mid-stream.
            ProviderTimeout: the upstream says that something behind it took too long.
            ProviderGarbage: the answer is not the protocol.
        """
        async with aclosing(self._chunks(request)) as chunks:
            yield chunks

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Send an embeddings request. Raises as `stream` does."""
        asking = self._asking(request, write_embeddings)
        with self._http.faults(SentRequest(request)):
            while True:
                try:
                    async with self._http.post("/embeddings", _encoded(asking.body)) as response:
                        answer = await _document(response)
                except Refused as error:
                    if not asking.can_do_without(error):
                        raise
                    continue
                asking.succeeded()
                return read_vectors(answer, len(request["input"]))

    async def models(self) -> list[str]:
        """Return the names of the models, from `GET /models`. Raises as `stream` does."""
        try:
            with anyio.fail_after(MODELS_S), self._http.faults(SentRequest({})):
                async with self._http.get("/models") as response:
                    return _model_ids(await _document(response))
        except TimeoutError:
            sentence = f"The provider {self.name} did not list its models within {MODELS_S:g} s."
            raise ProviderTimeout(sentence) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _chunks(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        asking = self._asking(request, write_chat)
        asked = SentRequest(request)
        with self._http.faults(asked):
            while True:
                reader = ChunkReader(secrets.token_hex(_SEED_BYTES), partial(self._failed_choice, asked))
                answer = ChatAnswer(reader, EVENT_BYTES)
                try:
                    async with (
                        self._http.post("/chat/completions", _encoded(asking.body)) as response,
                        aclosing(response.aiter_bytes()) as pieces,
                    ):
                        async for piece in pieces:
                            for chunk in answer.feed(piece):
                                if not asking.begun:
                                    asking.succeeded()
                                yield chunk
                            if answer.done:
                                await drain(pieces)
                                break
                        for chunk in answer.end():
                            asking.succeeded()
                            yield chunk
                        return
                except Refused as error:
                    if asking.begun or not asking.can_do_without(error):
                        raise

    def _asking(self, request: Mapping[str, Any], write: Write) -> "_Asking":
        return _Asking(self.name, str(request.get("model")), self._left_out, partial(write, request, self._rules))

    def _failed_choice(self, asked: SentRequest, error: object) -> AttemptFailed:
        # A passing fault, if it does not say more: the upstream had accepted the request.
        return self._http.failure(refusal_of(error, otherwise="server_error"), asked)


class _Asking:
    """The calls for one request: one, and one more for each transport field that is refused.

    `write` writes a body without some transport fields.
    """

    def __init__(
        self,
        provider: str,
        model: str,
        memory: LeftOut,
        write: Callable[[frozenset[TransportField]], dict[str, Any]],
    ) -> None:
        self._provider = provider
        self._model = model
        self._memory = memory
        self._write = write
        self._left_out = memory.of(model)
        self._blames: list[Blame] = []
        self.body = write(self._left_out)
        """The body of the next call."""
        self.begun = False
        """Whether something of the answer has come."""

    def can_do_without(self, error: Refused) -> bool:
        """Return whether the refusal blames a transport field of the body; the next one leaves it out."""
        blame = blamed(error.refusal, self.body, state_fields(self.body))
        if blame is None:
            return False
        if blame.field is TransportField.STREAM_OPTIONS and has_callers_options(self.body):
            blame = replace(blame, lasting=False)
        self._left_out |= {blame.field}
        refused, self.body = self.body, self._write(self._left_out)
        self._blames.append(blame)
        # The caller has a field of the same name, which stays: the next answer would be the same.
        return self.body != refused

    def succeeded(self) -> None:
        """Note that the answer has begun, and remember the fields that it was helpful to leave out."""
        self.begun = True
        while self._blames:
            blame = self._blames.pop()
            if blame.lasting:
                self._memory.add(blame.field, self._model)
            log.info(
                "provider.field_left_out",
                provider=self._provider,
                model=self._model,
                field=blame.field.value,
                remembered=blame.lasting,
            )


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


async def _document(response: httpx2.Response) -> object:
    answer = DocumentAnswer(EVENT_BYTES)
    async for piece in response.aiter_bytes():
        answer.feed(piece)
    return answer.end()


def _model_ids(answer: object) -> list[str]:
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        raise ProviderGarbage("The provider's /models response contains no list.")
    ids = [model.get("id") for model in models if isinstance(model, dict)]
    return [model_id for model_id in ids if isinstance(model_id, str)]
