"""The protocols of providers: each is a value with the name that the settings use, and the way to open a provider.

A composition root may add others. Not here: the providers themselves, and the choice of one
(worker/configured_providers.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.config.route_settings import SCRIPTED_URL
from shared.model.errors import StartupError
from shared.model.registry import Registry
from shared.model.routes import OPENAI_PROTOCOL, SCRIPTED_PROTOCOL, Upstream
from worker.upstream.providers.base import Provider
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.scripted import Scripted

# Tokens a second of the scripted provider: slow enough for a reader to follow.
_SCRIPTED_RATE = 30.0


@dataclass(frozen=True, slots=True)
class ProviderProtocol:
    """A protocol of providers. `open` makes the provider that an upstream's configuration describes.

    `open` raises StartupError if the configuration does not suit the protocol; it sends nothing.
    """

    name: str
    open: Callable[[Upstream], Provider]


ProviderProtocols = Registry[ProviderProtocol]


def required_url(upstream: Upstream) -> str:
    """Return the address of an upstream with a protocol that needs one.

    Raises:
        StartupError: it has none.
    """
    if upstream.base_url is None:
        raise StartupError(
            f"TAILRACE_PROVIDERS.{upstream.name}.base_url is missing: the protocol {upstream.protocol} needs an "
            "address, like https://api.openai.com/v1."
        )
    return upstream.base_url


def _open_openai(upstream: Upstream) -> Provider:
    key = None if upstream.api_key is None else upstream.api_key.get_secret_value()
    return OpenAICompatible(upstream.name, required_url(upstream), key, upstream.rules)


def _open_scripted(upstream: Upstream) -> Provider:
    if upstream.base_url not in (None, SCRIPTED_URL):
        raise StartupError(
            f"TAILRACE_PROVIDERS.{upstream.name}.base_url must be left out: the protocol scripted has no address."
        )
    return Scripted(upstream.name, rate=_SCRIPTED_RATE)


BUILT_IN_PROTOCOLS: Final[ProviderProtocols] = Registry(
    "provider protocol",
    (ProviderProtocol(OPENAI_PROTOCOL, _open_openai), ProviderProtocol(SCRIPTED_PROTOCOL, _open_scripted)),
)
"""The protocols that each worker knows."""
