"""Authenticate callers: map API keys to tenants and plans, and sign links to one job's events.

Keys are stored as SHA-256 and compared in constant time. A link carries a token that opens one job's events and nothing
else, because `EventSource` can't send headers. Not here: a tenant's permissions (gateway/admission/admission.py).
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.model.api_keys import ApiKey
from shared.model.errors import Forbidden, Unauthenticated

_MARK_BYTES, _CODE_BYTES = 6, 18
# A server that loses its data repeatedly must not make every check of a link longer.
_MOST_SECRETS = 16


@dataclass(frozen=True, slots=True)
class Caller:
    """Hold the tenant of a key, and its plan: the `lanes` that it may use; empty: all.

    The `generation` is a fingerprint of the key and its tenant; it reveals no secret.
    """

    tenant: str
    admin: bool = False
    lanes: tuple[str, ...] = ()
    generation: bytes = field(default=b"", repr=False, compare=False)


class Keyring:
    """Hold all API keys of the settings."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys: list[tuple[bytes, Caller]] = []
        for key in keys:
            digest = _digest(key.key.get_secret_value())
            generation = hashlib.sha256(digest + key.tenant.encode()).digest()
            self._keys.append((digest, Caller(key.tenant, key.admin, key.lanes, generation)))

    @property
    def generations(self) -> Sequence[bytes]:
        """Return the generations of all keys."""
        return [caller.generation for _, caller in self._keys]

    def caller(self, authorization: str | None) -> Caller:
        """Return the caller of an `Authorization: Bearer <key>` header (RFC 6750 §2.1).

        Raises:
            Unauthenticated: the header is missing, or the key is not configured.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("Send your API key as `Authorization: Bearer <key>`.", param="Authorization")
        presented = _digest(key.strip())
        found: Caller | None = None
        for digest, caller in self._keys:  # always all of them: the time must not reveal which one matches
            if hmac.compare_digest(digest, presented):
                found = caller
        if found is None:
            raise Unauthenticated("This API key is not valid.", param="Authorization")
        return found

    def admin(self, authorization: str | None) -> Caller:
        """Return the caller, if it has an admin key.

        Raises:
            Unauthenticated: see `caller`.
            Forbidden: the key is not an admin key.
        """
        caller = self.caller(authorization)
        if not caller.admin:
            raise Forbidden("This needs an admin key, which is configured as key:tenant:admin.")
        return caller


class Links:
    """Sign links to jobs' events: valid as long as the job can be read and the requesting key is configured.

    A token is a mark of its key's generation, and a code over both. The mark needs the secret, so that a weak key can't
    be guessed from a link.
    """

    def __init__(self, secret: str, generations: Sequence[bytes], prefix: str = "") -> None:
        """Accept links of the `generations` of all configured keys; `prefix` is the gateway's path behind a proxy."""
        self.secret = secret
        self._prefix = prefix
        self._generations = tuple(generations)
        self._accepted: dict[str, Mapping[bytes, bytes]] = {}
        self.accept([secret])

    def address(self, path: str) -> str:
        """Return a path of this gateway as its callers name it."""
        return self._prefix + path

    def sign_with(self, secret: str) -> None:
        """Sign new links with another secret; links of the former one stay valid."""
        self.secret = secret
        self.accept([secret])

    def accept(self, secrets: Iterable[str]) -> None:
        """Accept links that were signed with these secrets."""
        for secret in secrets:
            if secret and secret not in self._accepted:
                self._accepted[secret] = {_mark(secret, each): each for each in self._generations}
        for oldest in list(self._accepted)[:-_MOST_SECRETS]:
            del self._accepted[oldest]

    def token(self, job_id: str, caller: Caller) -> str:
        """Make the token that opens this job's events for as long as the caller's key is configured."""
        return _token(self.secret, job_id, caller.generation)

    def opens(self, token: str, job_id: str) -> bool:
        """Return whether the token was made for this job, under a key that is still configured."""
        try:
            mark = base64.urlsafe_b64decode(token.encode())[:_MARK_BYTES]
        except ValueError:
            return False
        made = [_token(secret, job_id, marks[mark]) for secret, marks in self._accepted.items() if mark in marks]
        return any(hmac.compare_digest(token.encode(), each.encode()) for each in made)


def _mark(secret: str, generation: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"key:" + generation, "sha256")[:_MARK_BYTES]


def _token(secret: str, job_id: str, generation: bytes) -> str:
    code = hmac.digest(secret.encode(), b"events:" + job_id.encode() + b":" + generation, "sha256")
    return base64.urlsafe_b64encode(_mark(secret, generation) + code[:_CODE_BYTES]).decode()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
