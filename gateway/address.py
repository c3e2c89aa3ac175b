"""The gateway's address, as a caller on this machine uses it. Pure.

Above: cli.py, which prints it, development_key.py, and the client, which calls it. Not here: whether anybody listens.
"""

import ipaddress


def base_url(host: str, port: int) -> str:
    """The URL of a gateway that binds to `host`."""
    # An address that means "all of mine" can't be called; loopback is one of them.
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this host is reached from this machine only. A name is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
