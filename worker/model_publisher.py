"""Publishes the models of the upstreams to the gateways' catalog, again and again.

Not here: how an upstream is asked for its models (worker/upstream/model_lists.py).
"""

import asyncio
from contextlib import suppress

import structlog

from shared.store.catalog import ModelCatalog
from shared.store.client import REDIS_FAULTS
from shared.store.refusals import name_of
from worker.upstream.model_lists import ModelLists

log = structlog.get_logger()

_PERIOD_S, _RETRY_S = 30.0, 3.0


async def publish_models(catalog: ModelCatalog, lists: ModelLists, lost: asyncio.Event) -> None:
    """Publish the models until cancelled, and at once if the queue's server has `lost` them.

    A worker that knows no models leaves the catalog to the workers that do.
    """
    retry_s = _RETRY_S
    while True:
        listing, published = await lists.read(), False
        try:
            if listing is not None:
                await catalog.publish(listing)
                published = listing.complete
        except REDIS_FAULTS as error:
            log.warning("worker.models_not_published", error=name_of(error))
        lost.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PERIOD_S if published else retry_s):
                await lost.wait()
        # An upstream that never lists its models must not get a request every few seconds.
        retry_s = _RETRY_S if published else min(2 * retry_s, _PERIOD_S)
