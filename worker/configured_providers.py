"""Opens the providers that the settings name.

Not here: the routes over them (worker/upstream/chain.py), and their protocols (worker/upstream/providers/protocols.py).
"""

from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.model.routes import Upstream
from worker.upstream.providers.base import Provider
from worker.upstream.providers.protocols import BUILT_IN_PROTOCOLS, ProviderProtocols


def make_providers(settings: Settings, protocols: ProviderProtocols = BUILT_IN_PROTOCOLS) -> dict[str, Provider]:
    """Open the providers of the settings, by their names; each has one of these protocols.

    Raises:
        StartupError: no upstream is configured, or a protocol, an address or a key is not valid.
    """
    upstreams = settings.route_table().upstreams
    if not upstreams:
        raise StartupError(
            "No upstream is configured: set TAILRACE_UPSTREAM_URL (or OPENAI_BASE_URL) to an OpenAI-compatible one."
        )
    return {name: _open(upstream, protocols) for name, upstream in upstreams.items()}


def _open(upstream: Upstream, protocols: ProviderProtocols) -> Provider:
    if upstream.protocol not in protocols:
        raise StartupError(f"TAILRACE_PROVIDERS.{upstream.name}.protocol must be one of: {protocols.names}.")
    return protocols[upstream.protocol].open(upstream)
