"""The gateway's address as callers on this machine use it, and the hosts that requests name. Pure.

Above: cli.py, development_key.py, head_check.py, and the client. Not here: whether a gateway listens there.
"""

import ipaddress
from typing import Final

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names of this machine in a Host header."""


def base_url(host: str, port: int) -> str:
    """The URL of a gateway that binds to `host`."""
    # An address that means "all of mine" can't be called; loopback is one of them.
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, bracketed(host))  # noqa: S104
    return f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this host is reached from this machine only. A name is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bracketed(host: str) -> str:
    """Return a host as an address names it: an IPv6 address stands in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def host_of(value: str) -> str:
    """Return the host of a Host header, in lower case and without its port (RFC 9110 §7.2)."""
    host = value.strip().lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
