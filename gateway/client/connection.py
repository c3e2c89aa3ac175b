"""Call a gateway: the native job API over HTTP, with retries until the retry window ends.

Every call may be repeated: a POST of a job carries an Idempotency-Key, and reading of events resumes at the last id. So
a gateway that restarts, is replaced, or loses its Redis for a while is only a delay. Not here: the meaning of events
(gateway/client/model/transcript.py), and the length of the retry window (gateway/client/model/retry_window.py).
"""

import math
import random
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from gateway.client.model.retry_window import RetryWindow
from gateway.client.model.text import one_line
from gateway.model.address import is_loopback
from shared.model.bounds import FRAME_BYTES, LIST_MOST, SENTENCE_CHARS
from shared.model.errors import GatewayGarbage, GatewayRefused, GatewayUnreachable, StartupError
from shared.model.events import TERMINAL_EVENTS, EventId, encode_data
from shared.model.jobs import is_job_id
from shared.model.model_names import is_model_name
from shared.model.sse_parser import EventReader, SentEvent
from shared.process.clock import Clock

DEAD_LETTERS = "/v1/dead-letters"
CONNECT_S = 5.0
SILENCE_S = 45.0
"""Streams have a heartbeat each 15 s by default, and an answer takes 2 s at most: longer silence means a lost peer."""
NOTIFY_AFTER_S = 2.0
"""An outage that lasts longer than this is reported to the user."""

# Statuses with which a gateway, or a proxy before it, reports a temporary condition.
_PASSING = (429, 502, 503, 504)

Json = Mapping[str, Any]


def address_of(text: str) -> httpx2.URL:
    """Read a gateway's address.

    Raises:
        StartupError: the text can't be an address.
    """
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise StartupError("TAILRACE_URL must be like http://127.0.0.1:8080.")
    return url


class GatewayConnection:
    """Call one gateway with one key. `notify` gets a sentence for people once an outage has lasted for a while.

    A `token` opens the events of one job in place of a key.
    """

    def __init__(
        self,
        address: httpx2.URL,
        key: str | None,
        retry_window: RetryWindow,
        clock: Clock,
        notify: Callable[[str], None],
        *,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare the connection; nothing is sent yet.

        Raises:
            StartupError: the key is not valid.
        """
        self._place = f"The gateway at {address.scheme}://{address.netloc.decode('ascii')}"
        self._retry_window = retry_window
        self._clock = clock
        self._notify = notify
        self._notified = False
        self._sleep = sleep
        self._token = {} if token is None else {"token": token}
        self._client = httpx2.Client(
            base_url=address,
            headers={"Accept-Encoding": "identity", **({} if key is None else _authorization(key))},
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
            # To load the certificates takes longer than all else at the start; a plain address needs none.
            verify=address.scheme != "http",
            # A proxy that the environment names is for other machines.
            trust_env=not is_loopback(address.host),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # Each of these raises GatewayUnreachable, GatewayRefused or GatewayGarbage.

    def submit(self, request: Json, idempotency_key: str) -> str:
        """Call `POST /v1/jobs`; return the job's id, the same for a repeated key."""
        headers = {"Idempotency-Key": idempotency_key, "Content-Type": "application/json"}
        # In ASCII, so that the gateway sees a torn character, and names the error.
        job = self._ask("POST", "/v1/jobs", content=encode_data(request), headers=headers)
        if not is_job_id(job_id := str(job.get("id"))):
            raise self._garbage()
        return job_id

    def result(self, job_id: str) -> Json:
        """Call `GET /v1/jobs/{id}/result`; return an embedding job's result, its vectors in base64."""
        return self._ask("GET", f"/v1/jobs/{job_id}/result", params={"encoding_format": "base64"})

    def cancel(self, job_id: str) -> Json:
        """Call `POST /v1/jobs/{id}/cancel`; return the job as it is afterwards."""
        return self._ask("POST", f"/v1/jobs/{job_id}/cancel")

    def jobs(self, status: str | None, limit: int) -> Iterator[Json]:
        """Call `GET /v1/jobs`; yield at most `limit` jobs, newest first, page by page."""
        query = {} if status is None else {"status": status}
        yield from self._pages("GET", "/v1/jobs", query, limit, "last_id")

    def dead_letters(self, filters: Mapping[str, str], limit: int) -> Iterator[Json]:
        """Call `GET /v1/dead-letters`; yield at most `limit` of them, the last that failed first, page by page."""
        return self._pages("GET", DEAD_LETTERS, filters, limit, "next")

    def dead_letter(self, job_id: str) -> Json:
        """Call `GET /v1/dead-letters/{id}`."""
        return self._ask("GET", f"{DEAD_LETTERS}/{job_id}")

    def requeue(self, job_id: str) -> Json:
        """Call `POST /v1/dead-letters/{id}/requeue`; return the new job."""
        return self._ask("POST", f"{DEAD_LETTERS}/{job_id}/requeue")

    def requeue_many(self, filters: Mapping[str, str], limit: int | None) -> Iterator[Json]:
        """Call `POST /v1/dead-letters/requeue`, page by page; yield the outcome for each."""
        return self._pages("POST", f"{DEAD_LETTERS}/requeue", filters, limit, "next")

    def delete(self, job_id: str) -> Json:
        """Call `DELETE /v1/dead-letters/{id}`."""
        return self._ask("DELETE", f"{DEAD_LETTERS}/{job_id}")

    def delete_many(self, filters: Mapping[str, str], limit: int | None) -> Iterator[Json]:
        """Call `DELETE /v1/dead-letters`, page by page; yield those that were deleted."""
        return self._pages("DELETE", DEAD_LETTERS, filters, limit, "next")

    def job_of_chat(self, chat_id: str) -> str | None:
        """Call `HEAD /api/chat/{id}/stream`; return the job that answers in this AI SDK chat, or did so last."""
        answer = self._request("HEAD", f"/api/chat/{quote(chat_id, safe='')}/stream")
        job_id: str | None = answer.headers.get("x-tailrace-job")
        if job_id is not None and not is_job_id(job_id):
            raise self._garbage()
        return job_id

    def models(self) -> list[str]:
        """Return the names of `GET /v1/models` that can be requested."""
        return [name for each in self._listed(self._ask("GET", "/v1/models")) if is_model_name(name := each.get("id"))]

    def events(self, job_id: str, cursor: EventId) -> Generator[SentEvent, None, None]:
        """Call `GET /v1/jobs/{id}/events`, over as many connections as it takes, up to the terminal event.

        Yields nothing if the job had ended and nothing follows the cursor. A new connection resumes after the last
        event that was read; after a `gap`, it starts at the log's earliest event.
        """
        last_id = str(cursor)
        while True:
            reader = EventReader(FRAME_BYTES)
            why = "its stream broke off"
            asked_s = None
            try:
                with self._client.stream(
                    "GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last_id}, params=self._token
                ) as response:
                    if response.status_code == httpx2.codes.NO_CONTENT:
                        return
                    if response.status_code != httpx2.codes.OK:
                        response.read()
                        why, asked_s = self._passing(response)
                    elif not _is_stream(response):
                        raise self._garbage()
                    else:
                        for event in self._received(response, reader):
                            last_id = event.id or last_id
                            yield event
                            if event.name in TERMINAL_EVENTS:
                                return
            except httpx2.RequestError as error:
                why = self._fault(error)
            if reader.retry_ms is not None:
                asked_s = reader.retry_ms / 1000
            self._wait(why, asked_s)

    def _received(self, response: httpx2.Response, reader: EventReader) -> Iterator[SentEvent]:
        self._retry_window.reached()
        for piece in response.iter_bytes():
            events = reader.feed(piece)
            # A gateway that shuts down, or one without its Redis, sends nothing but the time to reconnect after.
            if events or reader.retry_ms is None:
                self._answered()
            # A proxy's heartbeat may be an event without data.
            yield from [event for event in events if event.data]

    def _pages(
        self, method: str, path: str, query: Mapping[str, str], limit: int | None, cursor: str
    ) -> Iterator[Json]:
        """Yield the entries of a listing, at most `limit`; a page's field `cursor` is the start of the next page."""
        left, after = math.inf if limit is None else limit, dict[str, str]()
        while left > 0:
            size = str(min(left, LIST_MOST))
            page = self._ask(method, path, params={**query, **after, "limit": size})
            found = self._listed(page)
            yield from found
            left -= len(found)
            if not page.get("has_more") or not page.get(cursor):
                return
            after = {"after": str(page[cursor])}

    def _ask(self, method: str, path: str, **options: Any) -> Json:
        return self._json(self._request(method, path, **options))

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        while True:
            try:
                response = self._client.request(method, path, **options)
            except httpx2.RequestError as error:
                self._wait(self._fault(error), None)
                continue
            if response.is_success:
                self._answered()
                return response
            self._wait(*self._passing(response))

    def _answered(self) -> None:
        self._retry_window.answered()
        self._notified = False

    def _wait(self, why: str, asked_s: float | None) -> None:
        now = self._clock.monotonic()
        wait_s = self._retry_window.wait_s(now, random.random(), asked_s)
        if wait_s is None:
            raise GatewayUnreachable(f"{self._place} can't be reached: {why}.")
        if not self._notified and self._retry_window.silent_s(now) + wait_s >= NOTIFY_AFTER_S:
            self._notified = True
            self._notify(f"{self._place} can't be reached: {why}. Trying again; Ctrl-C ends it.")
        self._sleep(wait_s)

    def _fault(self, error: httpx2.RequestError) -> str:
        """Describe why a request failed, for a sentence."""
        if not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            self._retry_window.reached()
        why = re.sub(r"^\[Errno -?\d+\] ", "", one_line(str(error)))
        return why.rstrip(".") or type(error).__name__

    def _passing(self, response: httpx2.Response) -> tuple[str, float | None]:
        """Read a refusal that may pass: its sentence, and after how many seconds to try again.

        Raises:
            GatewayRefused: the refusal is final.
        """
        self._retry_window.reached()
        code, said = _problem(response)
        if response.status_code not in _PASSING:
            raise GatewayRefused(
                said or self._unsaid(response.status_code),
                http_status=response.status_code,
                reported_code=code,
            )
        after = response.headers.get("retry-after", "")
        why = said.rstrip(".") or f"it answered with {response.status_code}"
        return why, float(after) if after.isdecimal() and len(after) < 5 else None

    def _unsaid(self, status: int) -> str:
        if status == httpx2.codes.UNAUTHORIZED:
            return f"{self._place} does not accept this API key."
        return f"{self._place} answered with {status}; is TAILRACE_URL right?"

    def _json(self, response: httpx2.Response) -> Json:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise self._garbage()
        return body

    def _listed(self, page: Json) -> list[Json]:
        data = page.get("data")
        if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
            raise self._garbage()
        return data

    def _garbage(self) -> GatewayGarbage:
        return GatewayGarbage(f"{self._place} does not answer as Tailrace does; is TAILRACE_URL right?")


def _problem(response: httpx2.Response) -> tuple[str | None, str]:
    """Read an error's code and sentence, from problem+json (RFC 9457) or OpenAI's envelope."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None, ""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None, ""
    code, said = error.get("code"), error.get("detail") or error.get("message")
    sentence = one_line(said) if isinstance(said, str) else ""
    return code if isinstance(code, str) else None, sentence[:SENTENCE_CHARS]


def _is_stream(response: httpx2.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "text/event-stream"


def _authorization(key: str) -> dict[str, str]:
    if not (key.isascii() and key.isprintable() and key.strip()):
        raise StartupError("TAILRACE_API_KEY may hold only printable ASCII characters.")
    return {"Authorization": f"Bearer {key}"}
