"""The URLs and addresses that a webhook may call. Private networks are refused unless the operator allows them.

A caller of Tailrace chooses the URL. Without these rules a webhook could reach services that trust their own network.
Pure. Not here: name resolution and the connection to the address that was checked (worker/webhooks).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self
from urllib.parse import urlsplit

from shared.model.errors import InvalidRequest

Address = IPv4Address | IPv6Address

URL_CHARS: Final = 2048
"""The longest URL of a receiver."""

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
# Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses.
_NUMERIC = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")
_NAT64 = IPv6Network("64:ff9b::/96")
_V4_BITS = 0xFFFF_FFFF
_RIGHT = "it must be a public URL like https://hooks.example.com/tailrace"


@dataclass(frozen=True, slots=True)
class AllowedTargets:
    """Hosts and networks that may be called although they are not public; `TAILRACE_WEBHOOK_ALLOW` names them."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Self:
        """Read the entries of the setting.

        Raises:
            ValueError: an entry is neither a host's name, nor an address, nor a network.
        """
        hosts, networks = set(), []
        for entry in entries:
            host = entry.lower().strip("[]")
            try:
                networks.append(str(ip_network(host)))
            except ValueError:
                if not _NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
                    raise ValueError(
                        f"each must be a host name, an address or a network, as in 127.0.0.0/8; {entry!r} is not"
                    ) from None
                hosts.add(host)
        return cls(frozenset(hosts), tuple(networks))

    def allow_host(self, host: str) -> bool:
        """Return whether this host may be called at any address."""
        return host.rstrip(".") in self.hosts

    def allow_address(self, address: Address) -> bool:
        """Return whether this address may be called: it is public, or in a network that is allowed."""
        carried = _carried(address)
        return _is_public(carried) or any(carried in ip_network(network) for network in self.networks)


PUBLIC_ONLY: Final = AllowedTargets()
"""Nothing is allowed but what is public."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was checked, in its parts. `address` is set if the URL has one in place of a host's name."""

    url: str
    host: str
    port: int
    address: Address | None


def read_target(url: object, allowed: AllowedTargets, param: str) -> Target:
    """Read the URL of a receiver.

    Raises:
        InvalidRequest: it is no URL that may be called; the sentence names `param` and a valid value.
    """
    if not isinstance(url, str) or not 0 < len(url) <= URL_CHARS or not _is_plain(url):
        raise _refused(param, f"{_RIGHT}, of at most {URL_CHARS} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused(param, _RIGHT) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _refused(param, _RIGHT)
    if "@" in parts.netloc:
        raise _refused(param, "it must have no user and no password; the signature authenticates the sender")
    host = parts.hostname
    address = _address(host)
    if address is None and (not _NAME.fullmatch(host) or _NUMERIC.fullmatch(host)):
        raise _refused(param, _RIGHT)
    if not _may_call(host, address, allowed):
        raise _refused(param, f"{_RIGHT}; {host} is not public, and TAILRACE_WEBHOOK_ALLOW does not name it")
    return Target(url, host, port or (443 if parts.scheme == "https" else 80), address)


def _refused(param: str, right: str) -> InvalidRequest:
    return InvalidRequest(f"{param} can't be called: {right}.", param=param)


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url and "\\" not in url


def _address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _may_call(host: str, address: Address | None, allowed: AllowedTargets) -> bool:
    if address is not None:
        return allowed.allow_address(address)
    return allowed.allow_host(host) or not _is_local_name(host.rstrip("."))


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _carried(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & _V4_BITS)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved)
