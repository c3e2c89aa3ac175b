"""Make dead letters, and read and requeue them over HTTP.

Not here: how a job becomes one (a worker's completion steps).
"""

from typing import Any

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused, problem_of
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.store.wire.answers import Written
from tests.support.client import Answer, Client
from tests.support.core import make_spec
from tests.support.system import System

ROOT = "/v1/dead-letters"
REFUSED = ProviderRefused("Not that.", code="insufficient_quota")
NO_SUCH = "job_00000000000000000000000000"


def with_dead_letters(settings: Settings) -> Settings:
    """Keep failed jobs for twice as long as others, and have two lanes."""
    return settings.model_copy(update={"dead_letter_retention_s": 120.0, "lanes": ("default:1", "low:1")})


async def dead_letter(system: System, code: str = "insufficient_quota", **changes: Any) -> str:
    """Make a dead letter without a worker; return its id."""
    core = system.core
    spec = make_spec(**{"model": "mock", **changes})
    await core.store.create(spec, 1)
    execution = await core.begin(spec.id)
    data = encode_data({"error": problem_of(ProviderRefused("Not that.", code=code)), "usage": None, "events": 3})
    frame = encode_frame(EventType.FAILED, data, EventId(execution.epoch, 2))
    assert await core.executions.finish(execution, seq=2, frame=frame, status=State.FAILED, outcome=data) == Written()
    # As a gateway of these settings would: the core of the tests keeps very few.
    assert await system.gateway.services.dead_letters.add(spec.id) is not None
    return spec.id


async def ids(root: Client, query: str = "") -> list[str]:
    answer = await root.get(f"{ROOT}{query}")
    assert answer.status == 200, answer.body
    return [each["id"] for each in answer.json()["data"]]


async def requeue(root: Client, job_id: str) -> dict[str, Any]:
    answer = await root.post(f"{ROOT}/{job_id}/requeue")
    assert answer.status == 202, answer.body
    job: dict[str, Any] = answer.json()
    return job


def problem(answer: Answer) -> tuple[int, str, str | None]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    return answer.status, body["code"], body.get("param")


async def in_lane(system: System) -> int:
    return await system.core.depth("default") + await system.core.depth("low")
