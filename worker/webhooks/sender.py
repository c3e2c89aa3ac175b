"""Send one attempt of a webhook to an address that was checked, and read the receiver's status.

The resolver checks every address of a host, and the connection goes to these addresses, so that a name can't change
between check and call. Redirects are not followed, and the body of the answer is not read.
Not here: what follows an attempt (worker/model/webhook_attempt.py).
"""

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.model.errors import InvalidRequest
from shared.model.webhooks.target import AllowedTargets, read_target
from worker.model.webhook_attempt import Attempted

SEND_S: Final = 15.0
"""The longest time of an attempt, from the resolution of the name to the status."""
_LONGEST_RETRY_AFTER: Final = 9
_USER_AGENT: Final = "Tailrace-Webhooks/1"


class WebhookSender:
    """Sends attempts, each on a connection of its own."""

    def __init__(self, allowed: AllowedTargets) -> None:
        self._allowed = allowed

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempted:
        """Make one attempt. A receiver that can't be reached, or may not be called any more, has no status."""
        try:
            read_target(url, self._allowed, "url")
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(self._allowed), use_dns_cache=False, force_close=True
            )
            timeout = aiohttp.ClientTimeout(total=SEND_S)
            async with (
                aiohttp.ClientSession(
                    connector=connector, timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
                ) as session,
                session.post(
                    url,
                    data=body,
                    headers={"content-type": "application/json", "user-agent": _USER_AGENT, **headers},
                    allow_redirects=False,
                ) as response,
            ):
                return Attempted(response.status, _retry_after_s(response.headers.get("retry-after", "")))
        except (InvalidRequest, aiohttp.ClientError, OSError, ValueError):
            return Attempted(None)


class CheckedResolver(AbstractResolver):
    """Resolves a name, and refuses it if one of its addresses may not be called."""

    def __init__(self, allowed: AllowedTargets) -> None:
        self._allowed = allowed
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: the name has no address, or one that may not be called.
        """
        found = await self._names.resolve(host, port, family)
        if not self._allowed.allow_host(host):
            for each in found:
                if not self._allowed.allow_address(ip_address(each["host"])):
                    raise OSError(f"{host} has an address that webhooks may not call.")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._names.close()


def _retry_after_s(text: str) -> float | None:
    """Read the seconds of `Retry-After`; a date is not honoured."""
    return float(text) if text.isdecimal() and len(text) <= _LONGEST_RETRY_AFTER else None
