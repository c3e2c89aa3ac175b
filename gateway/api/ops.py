"""Serve health and metrics: liveness, readiness, and the counts of the whole fleet.

Liveness does not depend on Redis: restarting a gateway does not repair it.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.api.services import services_of
from gateway.http.errors import Face, problem
from shared.model.errors import Draining, NotFound, RedisUnavailable

_PING_S = 2.0


async def live(_: Request) -> Response:
    """Serve `GET /health/live`."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """Serve `GET /health/ready`: 503 while Redis is unavailable or can't serve, or this process is shutting down.

    A server that serves but may lose jobs is only a warning: taking all gateways out would not repair it.
    """
    services = services_of(request)
    if services.leaving:
        raise Draining("This gateway is shutting down; try again.")
    services.refuse_if_draining()
    try:
        async with asyncio.timeout(_PING_S):
            await services.queue.ping()
    except TimeoutError as error:
        raise RedisUnavailable("Redis does not answer.") from error
    if not services.hub.connected:
        raise RedisUnavailable("The live feed has no connection to Redis.")
    unfit = services.watch.unfit
    for each in unfit.values():
        if not each.serves:
            raise RedisUnavailable(each.sentence)
    warnings = {"warnings": sorted({each.sentence for each in unfit.values()})} if unfit else {}
    return JSONResponse({"status": "ok", **warnings})


async def metrics(request: Request) -> Response:
    """Serve `GET /metrics` for Prometheus: all processes, also while this one drains or Redis is unavailable."""
    services = services_of(request)
    if not services.settings.metrics:
        raise NotFound("Metrics are disabled: TAILRACE_METRICS is false.")
    if not services.settings.metrics_open:
        services.keyring.admin(request.headers.get("authorization"))
    body, content_type = await services.scrape.answer(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


face = Face(
    "/",
    problem,
    [
        Route("/health/live", live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ],
)
