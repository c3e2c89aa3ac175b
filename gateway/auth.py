"""Who is calling: API keys to tenants and plans, and signed links to one job's events.

Above: admission and the API. Keys are kept as SHA-256 and compared in constant time; a link carries a token that opens
one job's events and nothing else, because `EventSource` can't send headers. Not here: what a tenant may do.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.api_keys import ApiKey
from shared.errors import Forbidden, Unauthenticated

_TOKEN_BYTES = 18
# A server that forgets again and again must not make every check of a link longer.
_MOST_SECRETS = 16


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key belongs to, and its plan: the `lanes` that it may use; empty: all."""

    tenant: str
    admin: bool = False
    lanes: tuple[str, ...] = ()


class Keyring:
    """All API keys of the settings."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys: list[tuple[bytes, Caller]] = []
        for key in keys:
            digest = _digest(key.key.get_secret_value())
            self._keys.append((digest, Caller(key.tenant, key.admin, key.lanes)))

    def caller(self, authorization: str | None) -> Caller:
        """The caller of an `Authorization: Bearer <key>` header (RFC 6750 §2.1).

        Raises:
            Unauthenticated: the header is missing, or nobody issued this key.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("Send your API key as `Authorization: Bearer <key>`.", param="Authorization")
        presented = _digest(key.strip())
        found: Caller | None = None
        for digest, caller in self._keys:  # all of them, always: the time says nothing about which one fits
            if hmac.compare_digest(digest, presented):
                found = caller
        if found is None:
            raise Unauthenticated("This API key is not known.", param="Authorization")
        return found

    def admin(self, authorization: str | None) -> Caller:
        """The same, for what only admin keys may do.

        Raises:
            Unauthenticated: see `caller`.
            Forbidden: the key is no admin's.
        """
        caller = self.caller(authorization)
        if not caller.admin:
            raise Forbidden("This needs an admin key: one that is configured as key:tenant:admin.")
        return caller


class Links:
    """Signed links to jobs' events, good as long as the job can be read."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._accepted = [secret]

    def sign_with(self, secret: str) -> None:
        """Sign new links with another secret; links of the former one stay good."""
        self.secret = secret
        self.accept([secret])

    def accept(self, secrets: Iterable[str]) -> None:
        """Let links be good that were signed with these secrets."""
        self._accepted = list(dict.fromkeys((*self._accepted, *secrets)))[-_MOST_SECRETS:]

    def token(self, job_id: str) -> str:
        """Make the token that opens this job's events."""
        return _token(self.secret, job_id)

    def opens(self, token: str, job_id: str) -> bool:
        """Whether the token was made for this job."""
        # All of them, always: the time says nothing about which one fits.
        fits = [hmac.compare_digest(token.encode(), _token(each, job_id).encode()) for each in self._accepted if each]
        return any(fits)


def _token(secret: str, job_id: str) -> str:
    mac = hmac.digest(secret.encode(), b"events:" + job_id.encode(), "sha256")
    return base64.urlsafe_b64encode(mac[:_TOKEN_BYTES]).decode()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
