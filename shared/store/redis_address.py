"""The connections of an address: TCP, TLS or a Unix socket, with the options that its query may have.

TLS checks the server's name, and all connections of a process to an address share one TLS context: to build one reads
the system's certificates. Not here: how a connection behaves (client.py).
"""

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.exceptions import RedisError

from shared.model.errors import StartupError

_TLS = "ssl_"


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Make the pool of an address; it connects when first used.

    Raises:
        StartupError: the address has an option that there is not, or a value that can't be one.
    """
    scheme, query = _parts(url)
    if scheme == "rediss" and "ssl_cert_reqs" not in query:
        options["ssl_check_hostname"] = True  # without a checked certificate there is no name to check
    if scheme != "unix":
        options["socket_keepalive"] = True
    try:
        pool = BlockingConnectionPool.from_url(url, **options)
        if pool.connection_class is SSLConnection:
            pool.connection_class = SharedTls
        pool.make_connection()
    except (TypeError, ValueError, RedisError) as error:
        # The error itself may quote a value, and the address has a password.
        wrong = [name for name in parse_qs(urlsplit(url).query, keep_blank_values=True) if name in str(error)]
        sentence = (
            f"option {wrong[0]} of the address of Redis is"
            if len(wrong) == 1
            else "options of the address of Redis are"
        )
        raise StartupError(f"The {sentence} not valid.") from None
    return pool


def _parts(url: str) -> tuple[str, str]:
    """Return the scheme and the query. The sentence of a refusal holds no part of the address, which has a password.

    Raises:
        StartupError: the address is not a URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise StartupError(
            "The address of Redis is not a URL: its port must be a number up to 65535, and characters such as / # ? @ "
            "in its user or password must be written with a percent sign, as in %2F for /."
        ) from None
    return parts.scheme, parts.query


def certificate_problem(error: BaseException) -> str | None:
    """Describe why a server's certificate was not accepted; None for another error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


class SharedTls(SSLConnection):
    """redis-py's TLS connection, with the TLS context of all connections of its kind."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = _context_of(tuple(sorted(_tls_options(options).items())))


def _tls_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(_TLS): value for name, value in options.items() if name.startswith(_TLS)}


@cache
def _context_of(options: tuple[tuple[str, Any], ...]) -> RedisSSLContext:
    """Make the TLS context of these options, once."""
    return RedisSSLContext(**{"cert_reqs": "required", **dict(options)})
