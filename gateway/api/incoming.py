"""Receive a request that may become a job: its caller, its body, and the work on it.

Not here: the work itself (gateway/preparation).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec, Self, TypeVar

from starlette.requests import Request

from gateway.api.services import Services
from gateway.http.bodies import read_body
from gateway.http.heavy_work import Requester, RequestWork
from gateway.model.auth import Caller
from gateway.preparation.request_head import RequestHead
from gateway.specs.request_options import RequestOptions

P = ParamSpec("P")
T = TypeVar("T")


class Incoming:
    """Hold a request of a caller, with its complete body."""

    def __init__(self, services: Services, request: Request, caller: Caller, head: RequestHead, raw: bytes) -> None:
        self.caller = caller
        self.head = head
        self.raw = raw
        self.by = Requester(caller.tenant, request)
        self.work = RequestWork(services.heavy, self.by, len(raw))

    @classmethod
    async def receive(cls, request: Request, services: Services) -> Self:
        """Identify the caller, and then read the body.

        Raises:
            Draining, Unauthenticated, BodyTooLarge: the request is refused.
            starlette.requests.ClientDisconnect: the client left before the body was complete.
        """
        services.refuse_if_draining()
        caller = services.keyring.caller(request.headers.get("authorization"))
        raw = await read_body(request, services.settings.max_body_bytes)
        head = RequestHead(
            services.admission.specs,
            replace(caller, generation=b""),
            request.headers.get("idempotency-key"),
            RequestOptions.of(request.headers),
            services.admission.new_id(),
        )
        return cls(services, request, caller, head, raw)

    async def prepare(
        self, work: Callable[Concatenate[bytes, RequestHead, P], T], *args: P.args, **named: P.kwargs
    ) -> T:
        """Call one of the functions of gateway/preparation on the body and the head, see `HeavyWork.run`."""
        return await self.work.run(work, self.raw, self.head, *args, **named)
