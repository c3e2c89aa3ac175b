"""Serve `/v1/webhook_secret`: the secret with which a tenant's receivers verify their webhooks.

Not here: deliveries; the workers make them.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.services import services_of
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem


async def secret(request: Request) -> Response:
    """Serve `GET /v1/webhook_secret`; the secret is made by the first call, or by the first delivery."""
    services = services_of(request)
    caller = services.keyring.caller(request.headers.get("authorization"))
    value = await services.webhook_secrets.of(caller.tenant)
    return AsciiJSONResponse({"object": "webhook_secret", "secret": value}, headers={"cache-control": "no-store"})


face = Face("/v1/webhook_secret", problem, [Route("/v1/webhook_secret", secret, methods=["GET"])])
