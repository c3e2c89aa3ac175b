"""Test the secrets of signed links on a real server: one signs for all gateways, and a former one stays valid."""

import asyncio

from gateway.admission.shared_links import SharedLinks
from gateway.model.auth import Caller
from shared.process.clock import SystemClock
from shared.store.link_secrets import LinkSecrets
from tests.support.core import Core, fresh_job_id

KEPT_S = 60.0
CALLER = Caller("alice", generation=b"a generation")


def secrets_on(core: Core) -> LinkSecrets:
    return LinkSecrets(core.client, core.keys, kept_s=KEPT_S)


async def sharing(core: Core) -> SharedLinks:
    """Build the links of a gateway that has just started."""
    links = SharedLinks(secrets_on(core), SystemClock(), [CALLER.generation])
    await links.share()
    return links


async def test_gateways_that_start_together_share_one_secret(core: Core) -> None:
    found = await asyncio.gather(*(secrets_on(core).signing(f"fresh {n}") for n in range(8)))

    assert len(set(found)) == 1
    assert found[0].startswith("fresh ")
    assert await secrets_on(core).signing("later") == found[0]


async def test_a_link_is_good_at_every_gateway(core: Core) -> None:
    first, second, job_id = await sharing(core), await sharing(core), fresh_job_id()

    assert await second.open(first.token(job_id, CALLER), job_id)
    assert await first.open(second.token(job_id, CALLER), job_id)
    assert not second.opens(first.token(job_id, CALLER), fresh_job_id())


async def test_a_secret_that_was_forgotten_is_written_again_by_a_gateway_that_has_it(core: Core) -> None:
    first, job_id = await sharing(core), fresh_job_id()
    await core.client.delete(core.keys.secret)
    await first.share()

    assert (await sharing(core)).token(job_id, CALLER) == first.token(job_id, CALLER)


async def test_links_of_a_former_and_of_another_secret_are_good_at_every_gateway(core: Core) -> None:
    first, job_id = await sharing(core), fresh_job_id()
    former = first.token(job_id, CALLER)
    await core.client.delete(core.keys.secret)
    second = await sharing(core)
    await first.share()
    third = await sharing(core)

    for links in (first, second, third):
        assert await links.open(former, job_id)
        assert await links.open(second.token(job_id, CALLER), job_id)
    assert first.token(job_id, CALLER) == second.token(job_id, CALLER) == third.token(job_id, CALLER) != former


async def test_a_new_gateway_waits_until_the_others_have_noticed_its_secret(core: Core) -> None:
    first, job_id = await sharing(core), fresh_job_id()
    await core.client.delete(core.keys.secret)
    links = SharedLinks(secrets_on(core), SystemClock(), [CALLER.generation], settle_s=0.2)
    await links.share()

    opening = asyncio.create_task(links.open(first.token(job_id, CALLER), job_id))
    await asyncio.sleep(0)
    await first.share()

    assert await opening


async def test_an_unknown_link_is_refused(core: Core) -> None:
    links = SharedLinks(secrets_on(core), SystemClock(), [CALLER.generation], settle_s=0.0)
    await links.share()

    assert not await links.open("x" * 24, fresh_job_id())


async def test_former_secrets_are_not_kept_for_ever(core: Core) -> None:
    await secrets_on(core).keep("former")

    assert await secrets_on(core).others() == ["former"]
    assert 0 < await core.client.pttl(core.keys.link_secrets) <= KEPT_S * 1000


async def test_a_configured_secret_needs_no_server() -> None:
    links, job_id = SharedLinks(None, SystemClock(), [CALLER.generation], "configured"), fresh_job_id()
    await links.share()

    assert await links.open(links.token(job_id, CALLER), job_id)
    assert not await links.open("x" * 24, job_id)
