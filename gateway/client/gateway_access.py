"""Choose the gateway of a command and the key for it, and find the job that a reference names.

Not here: the requests themselves (connection.py), and the forms of a reference (gateway/client/model/reference.py).
"""

from argparse import Namespace

import httpx2

from gateway.admission.development_key import kept_development_key
from gateway.client.connection import GatewayConnection, address_of
from gateway.client.model.reference import Reference
from gateway.client.model.retry_window import RetryWindow
from gateway.client.model.text import one_line
from gateway.client.terminal import Console
from gateway.model.address import base_url, is_loopback
from shared.config.settings import Settings
from shared.model.errors import GatewayRefused, StartupError
from shared.process.clock import SystemClock

RETRY_S = 60.0


def connect(options: Namespace, settings: Settings, console: Console) -> GatewayConnection:
    """Open a connection to the command's gateway, with its key or with the token of the link that was given."""
    first_s, later_s = (0.0, RETRY_S) if options.patience is None else (options.patience, options.patience)
    retry_window = RetryWindow(first_s, later_s)
    named = references(options)
    if options.command == "tail" and (token := named[0].token) is not None:
        # Such a link is valid without a key, at any gateway; no key is sent there.
        address = address_of(named[0].gateway or _url(settings))
        return GatewayConnection(address, None, retry_window, SystemClock(), console.note, token=token)
    address = address_of(_url(settings))
    for reference in named:
        _check_gateway(reference, address)
    return GatewayConnection(address, _key(address, settings), retry_window, SystemClock(), console.note)


def references(options: Namespace) -> list[Reference]:
    """Read the references that `tail` or `cancel` was given."""
    if options.command == "tail":
        return [options.job or options.chat]
    return [*options.jobs, *options.chat] if options.command == "cancel" else []


def _check_gateway(reference: Reference, address: httpx2.URL) -> None:
    """Check that the key is sent to its own gateway only.

    Raises:
        StartupError: the job's address is one of another gateway.
    """
    if reference.gateway is None:
        return
    named = address_of(reference.gateway)
    if (named.scheme, named.netloc) != (address.scheme, address.netloc):
        raise StartupError(
            f"That is an address at {named.scheme}://{named.netloc.decode('ascii')}: set TAILRACE_URL to it, and "
            "TAILRACE_API_KEY to a key of its own."
        )


def job_id_of(reference: Reference, connection: GatewayConnection) -> str:
    """Find the job that a reference means.

    Raises:
        GatewayRefused: the chat has no answer yet.
    """
    if reference.job_id is not None:
        return reference.job_id
    chat_id = str(reference.chat_id)
    job_id = connection.job_of_chat(chat_id)
    if job_id is None:
        raise GatewayRefused(f"There is no answer in the chat {one_line(chat_id)}.", http_status=httpx2.codes.NOT_FOUND)
    return job_id


def _url(settings: Settings) -> str:
    if settings.url is not None:
        return settings.url
    if settings.port == 0:
        raise StartupError("TAILRACE_PORT is 0: set TAILRACE_URL to the address that `tailrace up` has printed.")
    return base_url(settings.host, settings.port)


def _key(address: httpx2.URL, settings: Settings) -> str:
    """Return the key for this gateway: the configured one; the development key is for this machine only."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if settings.api_keys or not is_loopback(address.host):
        raise StartupError("TAILRACE_API_KEY is not set, and this gateway requires one.")
    return kept_development_key(settings.data_dir)
