"""Format the gateway's address for callers on this machine, and parse the hosts that requests name. Pure."""

import ipaddress
from typing import Final

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names of this machine in a Host header."""


def base_url(host: str, port: int) -> str:
    """Build the URL of a gateway that binds to `host`."""
    # A wildcard address can't be called; loopback is one of the addresses that it means.
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, bracketed(host))  # noqa: S104
    return f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether this host is reached from this machine only. A name is not looked up."""
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
