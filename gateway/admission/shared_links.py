"""Share the secret of links, so that they are valid at every gateway, also after Redis has lost the secret.

The secrets are in shared/store/link_secrets.py. Not here: signing (gateway/model/auth.py).
"""

import asyncio
import secrets
from collections.abc import Sequence

from gateway.model.auth import Links
from shared.process.clock import Clock
from shared.store.link_secrets import LinkSecrets

_SECRET_BYTES = 32
# A gateway that starts just after the loss learns of a former secret when another gateway has seen the loss.
_SETTLE_S = 4.0


class SharedLinks(Links):
    """Sign this gateway's links with the fleet's secret, and accept every other one that was in use."""

    def __init__(
        self,
        store: LinkSecrets | None,
        clock: Clock,
        generations: Sequence[bytes],
        secret: str = "",
        *,
        prefix: str = "",
        settle_s: float = _SETTLE_S,
    ) -> None:
        """Sign with a configured secret, which needs no `store` since it can't be lost, or with those of the store."""
        super().__init__(secret, generations, prefix)
        self._store = store
        self._clock = clock
        self._settled_at = clock.monotonic() + settle_s
        self._fresh = secret or secrets.token_urlsafe(_SECRET_BYTES)

    async def share(self) -> None:
        """Agree on the secret that signs. The one that this gateway has signed with stays valid everywhere.

        Raises:
            RedisError, OSError: one of `REDIS_FAULTS`.
        """
        if self._store is None:
            return
        signing = await self._store.signing(self.secret or self._fresh)
        if self.secret not in ("", signing):
            await self._store.keep(self.secret)
        self.sign_with(signing)
        await self._learn(self._store)

    async def open(self, token: str, job_id: str) -> bool:
        """Return whether the token was made for this job, by any gateway. Raises one of `REDIS_FAULTS`."""
        if self.opens(token, job_id):
            return True
        if self._store is None:
            return False
        await self._learn(self._store)
        if not self.opens(token, job_id) and (left_s := self._settled_at - self._clock.monotonic()) > 0:
            await asyncio.sleep(left_s)
            await self._learn(self._store)
        return self.opens(token, job_id)

    async def _learn(self, store: LinkSecrets) -> None:
        self.accept([await store.signing(self.secret or self._fresh), *await store.others()])
