"""x"""

from shared.settings import Settings
from tests.support.gateway import running_gateway
from tests.support.scribe import desk


async def test_smoke(settings: Settings) -> None:
    async with running_gateway(settings) as gateway, desk(settings) as d:
        s = await d.started()
        async with gateway.client.stream("GET", f"/v1/jobs/{s.job_id}/events") as r:
            print(r.status, r.raw_headers)
            print(await r.frames(2))
            await s.say("a", "b")
            print(await r.frames(2))
            await s.complete()
            print(await r.rest(), r.complete)
        print((await gateway.client.get("/v1/jobs/x")).json())
