"""Serve `/v1/models`: the models that can be requested, from the settings or as the workers last listed them.

Not here: providers; the gateway never connects to one.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.services import Services, services_of
from gateway.http.errors import Face
from shared.model.errors import ModelNotFound
from shared.model.model_names import MODEL_CHARS

# OpenAI's clients require the field; the time when a model was made is unknown.
_CREATED = 0


async def _models(request: Request, services: Services) -> list[str]:
    services.keyring.caller(request.headers.get("authorization"))
    return sorted(services.settings.served_models) or await services.catalog.models()


async def listing(request: Request) -> Response:
    """Serve `GET /v1/models` (OpenAI API reference, models/list)."""
    models = await _models(request, services_of(request))
    return JSONResponse({"object": "list", "data": [_show(name) for name in models]})


async def get(request: Request) -> Response:
    """Serve `GET /v1/models/{id}`; an id may contain slashes."""
    name: str = request.path_params["model"]
    if name not in await _models(request, services_of(request)):
        raise ModelNotFound(f"The model {name[:MODEL_CHARS]!r} does not exist.", param="model")
    return JSONResponse(_show(name))


def _show(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "tailrace"}


face = Face(
    OPENAI_PREFIX,
    openai_error,
    [
        Route("/v1/models", listing, methods=["GET"]),
        Route("/v1/models/{model:path}", get, methods=["GET"]),
    ],
)
