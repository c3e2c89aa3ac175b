"""Open the events of one job with a link, and of no other job."""

from typing import Any

from shared.config.settings import Settings
from shared.model.events import Event
from tests.support.client import Answer, Client
from tests.support.events_api import ALL, address, ids
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide, LogWriter


async def test_a_link_opens_the_events_of_its_job_without_a_key(
    gateway: Gateway, client: Client, finished: LogWriter
) -> None:
    link = (await client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"]
    assert ids(await events_at(client.as_(None), link)) == ALL
    assert ids(await events_at(client.as_(None), link + "&last_event_id=1-4")) == ["1-5", "1-6"]
    assert ids(await events_at(client.as_("sk-bob"), link)) == ALL  # the link is enough


async def events_at(client: Client, target: str) -> list[Event]:
    async with client.stream("GET", target) as stream:
        assert stream.status == 200
        return await stream.events()


async def test_a_link_that_was_not_made_for_this_job_opens_nothing(client: Client, writing: JobSide) -> None:
    one, other = await writing.create(), await writing.create(tenant="bob")
    token = (await client.get(f"/v1/jobs/{one}")).json()["links"]["events"].partition("token=")[2]
    for target in (
        address(other, token=token),
        address(one, token=token[:-1] + ("A" if token[-1] != "A" else "B")),
        address(one, token=""),
        address(one, token="x"),
        address("job_0000000000000000000000000a", token=token),
        address("nonsense", token=token),
    ):
        for caller in (client.as_(None), client):
            answer = await caller.get(target)
            assert answer.status == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.json()["code"], answer.json()["param"]) == ("invalid_api_key", "token")


async def test_a_link_opens_nothing_but_events(client: Client, finished: LogWriter) -> None:
    token = (await client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"].partition("?")[2]
    nobody = client.as_(None)
    assert (await nobody.get(f"/v1/jobs/{finished.job_id}?{token}")).status == 401
    assert (await nobody.post(f"/v1/jobs/{finished.job_id}/cancel?{token}")).status == 401


async def test_links_of_all_gateways_are_good_at_all_gateways(settings: Settings, finished: LogWriter) -> None:
    shared = settings.model_copy(update={"secret": None})
    async with running_gateway(shared) as one, running_gateway(shared) as other:
        link = (await one.client.get(f"/v1/jobs/{finished.job_id}")).json()["links"]["events"]
        assert ids(await events_at(other.client.as_(None), link)) == ALL
    async with running_gateway(shared) as restarted:
        assert ids(await events_at(restarted.client.as_(None), link)) == ALL


async def test_a_link_ends_with_its_key_and_other_links_continue(settings: Settings, finished: LogWriter) -> None:
    keys = ("sk-alice:alice", "sk-alice-2:alice")
    async with running_gateway(settings.model_copy(update={"api_keys": keys})) as gateway:
        path = f"/v1/jobs/{finished.job_id}"
        first, second = [
            (await gateway.client.as_(key).get(path)).json()["links"]["events"] for key in ("sk-alice", "sk-alice-2")
        ]
    async with running_gateway(settings.model_copy(update={"api_keys": keys[1:]})) as restarted:
        stranger = restarted.client.as_(None)
        assert (await stranger.get(first)).status == 401
        assert ids(await events_at(stranger, second)) == ALL


async def test_another_tenants_job_answers_like_an_unknown_one(client: Client, finished: LogWriter) -> None:
    def shape(answer: Answer, job_id: str) -> tuple[Any, ...]:
        headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        return answer.status, headers, answer.body.replace(job_id.encode(), b"JOB")

    bob, unknown = client.as_("sk-bob"), "job_0000000000000000000000000a"
    foreign = await bob.get(address(finished.job_id))
    assert foreign.status == 404
    assert shape(foreign, finished.job_id) == shape(await bob.get(address(unknown)), unknown)
    assert (await client.as_("sk-root").get(address(finished.job_id))).status == 404, "admins have no special eyes here"
