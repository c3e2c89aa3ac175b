"""Delete dead letters: their jobs stay ordinary jobs of their tenants."""

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.dead_letters_api import ROOT, dead_letter, ids, with_dead_letters
from tests.support.system import System


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_dead_letters(settings)


async def test_the_job_of_a_deleted_dead_letter_stays_an_ordinary_job(system: System, root: Client) -> None:
    old = await dead_letter(system)

    answers = [await root.request("DELETE", f"{ROOT}/{old}") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json() == {"id": old, "object": "dead_letter", "deleted": True}
    assert await ids(root, "?requeued=any") == []
    assert (await root.get(f"{ROOT}/{old}")).status == 404
    assert (await system.client.get(f"/v1/jobs/{old}")).json()["status"] == "failed"
    assert await system.core.client.ttl(system.core.keys.job(old).record) <= system.settings.retention_s


async def test_many_are_deleted_page_by_page(system: System, root: Client) -> None:
    kept = await dead_letter(system, tenant="bob")
    for _ in range(3):
        await dead_letter(system)

    first = (await root.request("DELETE", f"{ROOT}?tenant=alice&limit=2")).json()
    second = (await root.request("DELETE", f"{ROOT}?tenant=alice&limit=2&after={first['next']}")).json()

    assert [(page["deleted"], page["has_more"]) for page in (first, second)] == [(2, True), (1, False)]
    assert await ids(root) == [kept]
    assert (await root.request("DELETE", f"{ROOT}?all=true")).json()["deleted"] == 1
    assert await ids(root) == []
