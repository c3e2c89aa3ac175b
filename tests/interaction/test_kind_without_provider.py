"""A kind of job that calls no provider: no model at its submission, no route, no permit and no circuit breaker.

Not here: kinds that are functions (test_own_functions.py).
"""

from collections.abc import Mapping
from typing import Any

from gateway.specs.kinds import ADMITTED_KINDS, KindAdmission
from shared.config.settings import Settings
from shared.model.kinds import KindSpec, ResultForm
from tests.interaction.test_own_kind import WordCount, read_text
from tests.support.system import running_system, running_worker
from worker.execution.access import without_provider
from worker.execution.executions import EXECUTABLE_KINDS, KindExecution

ALONE = KindSpec("words-alone", ResultForm.VALUE, streams_text=False, calls_provider=False)
ADMITTED = ADMITTED_KINDS.adding(KindAdmission(ALONE, read_text))
EXECUTABLE = EXECUTABLE_KINDS.adding(KindExecution(ALONE, WordCount, without_provider(max_attempts=1)))


def counting(**fields: Any) -> Mapping[str, Any]:
    """Return the body of a job that counts words."""
    return {"kind": "words-alone", "text": "one two three", **fields}


async def test_a_job_of_the_kind_needs_no_model_and_names_no_provider(settings: Settings) -> None:
    changed = settings.model_copy(update={"models": ("only-this",), "strict_models": True})
    async with running_system(changed, ADMITTED) as system, running_worker(changed, kinds=EXECUTABLE):
        submitted = await system.client.post("/v1/jobs", counting())
        story = await system.story(submitted.json()["id"])
        job = (await system.client.get(f"/v1/jobs/{submitted.json()['id']}")).json()

    assert (submitted.status, submitted.json()["model"]) == (202, None)
    assert story.types == ["queued", "started", "progress", "progress", "progress", "completed"]
    assert (story.events[1].json()["model"], story.events[1].json()["provider"]) == (None, None)
    assert (job["model"], job["result"]) == (None, {"words": 3})
    assert [(each["model"], each["provider"]) for each in job["attempts"]] == [(None, None)]


async def test_the_names_in_a_task_of_the_kind_are_its_own(settings: Settings) -> None:
    async with running_system(settings, ADMITTED) as system, running_worker(settings, kinds=EXECUTABLE):
        body = {"text": "one two", "lane": "a lane of its own", "abandon_after_s": 5}
        submitted = await system.client.post("/tasks?kind=words-alone", body)
        ended = (await system.client.get(submitted.headers["location"] + "?wait=5")).json()

    assert (submitted.status, ended["status"], ended["model"]) == (202, "SUCCESS", None)
    assert ended["result"] == {"words": 2}
