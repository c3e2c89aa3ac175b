"""Builds the providers that the settings name.

Not here: the routes over them (worker/upstream/chain.py), and their requests (worker/upstream/providers).
"""

from shared.config.settings import Settings
from shared.config.upstream_settings import SCRIPTED_URL
from shared.model.errors import StartupError
from shared.model.routes import Upstream
from worker.upstream.providers.base import Provider
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.scripted import Scripted

# Tokens a second of the scripted provider: slow enough for a reader to follow.
_SCRIPTED_RATE = 30.0


def make_providers(settings: Settings) -> dict[str, Provider]:
    """Build the upstreams of the settings, by their names.

    Raises:
        StartupError: no upstream is configured, or an address or a key is not valid.
    """
    upstreams = settings.route_table().upstreams
    if not upstreams:
        raise StartupError(
            "No upstream is configured: set TAILRACE_UPSTREAM_URL (or OPENAI_BASE_URL) to an OpenAI-compatible one."
        )
    return {name: _provider(upstream) for name, upstream in upstreams.items()}


def _provider(upstream: Upstream) -> Provider:
    if upstream.base_url == SCRIPTED_URL:
        return Scripted(upstream.name, rate=_SCRIPTED_RATE)
    key = None if upstream.api_key is None else upstream.api_key.get_secret_value()
    return OpenAICompatible(upstream.name, upstream.base_url, key, upstream.rules)
