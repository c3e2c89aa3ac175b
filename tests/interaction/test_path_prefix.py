"""A gateway that a proxy shows under a path: its links and `Location` begin with it, and it serves both forms."""

from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.log_writer import PROMPT, JobSide

PREFIX = "/tools/llm"
BODY = {"model": "scripted", "messages": PROMPT}


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """Alice, at a gateway with a prefix."""
    async with running_gateway(settings.model_copy(update={"path_prefix": PREFIX})) as gateway:
        yield gateway.client


@pytest.mark.parametrize("path", ["/v1/jobs", f"{PREFIX}/v1/jobs"], ids=["taken off", "left on"])
async def test_every_link_and_the_location_lead_through_the_proxy(client: Client, path: str) -> None:
    answer = await client.post(path, BODY)

    job = answer.json()
    assert answer.status == 202
    assert answer.headers["location"] == job["links"]["self"] == f"{PREFIX}/v1/jobs/{job['id']}"
    assert all(link.startswith(f"{PREFIX}/v1/jobs/{job['id']}") for link in job["links"].values())
    assert (await client.get(job["links"]["self"])).json()["id"] == job["id"]


async def test_a_signed_link_opens_its_events_in_both_forms(client: Client, writing: JobSide) -> None:
    link = (await client.post("/v1/jobs", BODY)).json()["links"]["events"]
    await (await writing.take()).complete()

    for path in (link, link.removeprefix(PREFIX)):
        assert (await client.as_(None).get(path)).status == 200


async def test_errors_keep_their_dialect_under_the_prefix(client: Client) -> None:
    native = await client.as_(None).get(f"{PREFIX}/v1/jobs/job_1")
    openai = await client.as_(None).get(f"{PREFIX}/v1/models")

    assert native.json()["status"] == openai.status == 401
    assert openai.json()["error"]["code"] == "invalid_api_key"


async def test_the_page_names_its_files_beside_itself(client: Client) -> None:
    page = (await client.get(f"{PREFIX}/")).body.decode()

    assert 'src="web/chat.js"' in page
    assert '="/web' not in page
    assert (await client.get(f"{PREFIX}/web/chat.js")).status == 200


async def test_another_path_that_begins_alike_is_not_the_prefix(client: Client) -> None:
    assert (await client.get(f"{PREFIX}x/v1/models")).status == 404


async def test_a_header_of_a_client_changes_no_link(client: Client) -> None:
    answer = await client.post("/v1/jobs", BODY, headers={"X-Forwarded-Prefix": "/evil"})

    assert answer.headers["location"].startswith(PREFIX)


@pytest.mark.parametrize("prefix", ["llm", "/llm/", "/", "/a//b", "/a b", "//evil"])
def test_a_prefix_that_is_not_a_path_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="begins with / and does not end with one"):
        Settings(path_prefix=prefix)
