"""Find the history that a request for a response needs: earlier responses, items, and the state of answers.

Not here: routes (responses.py), and the request that results (gateway/preparation/response.py).
"""

from collections.abc import Sequence
from typing import Final

import structlog

from gateway.api.allowance import Allowance
from gateway.api.incoming import Incoming
from gateway.api.services import Services
from gateway.api.stored_responses import Stored, logged_frames, readable, stored_response
from gateway.dialects.responses.logged_answer import AnswerLog, LoggedAnswer
from gateway.dialects.responses.object import response_id
from gateway.dialects.responses.request import too_long
from gateway.preparation.response import (
    Earlier,
    Need,
    NeedsJobs,
    NeedsOutputs,
    NeedsPrevious,
    NeedsStates,
    PreparedResponse,
    prepare_response,
)
from gateway.preparation.stored_answer import encoded_output
from shared.model.errors import BrokenJob, InvalidRequest, JobNotFound, ResponseNotFound
from shared.model.jobs import Job
from shared.store.client import REDIS_FAULTS

log = structlog.get_logger()

# Frames are several times as large as the state in them.
_STATE_BODIES: Final = 4
_PREVIOUS: Final = "previous_response_id"


class ResponseHistory:
    """Find the history that one request of a response needs. Each of its needs is read up to the size of a body."""

    def __init__(self, services: Services, incoming: Incoming) -> None:
        self._services = services
        self._incoming = incoming
        self._most = services.settings.max_body_bytes
        self._logs = _Logs(services, incoming)

    async def prepare(self) -> PreparedResponse:
        """Prepare the request with all that it needs.

        Raises:
            InvalidRequest: a response does not exist or has not ended, or the conversation has become too long.
        """
        found: list[object] = []
        while True:
            prepared = await self._incoming.prepare(prepare_response, self._most, found)
            if isinstance(prepared, PreparedResponse):
                return prepared
            found.append(await self._find(prepared))

    async def _find(self, need: Need) -> object:
        match need:
            case NeedsPrevious(response):
                return await self._earlier(response)
            case NeedsOutputs(jobs):
                return await self._outputs(jobs)
            case NeedsJobs(prompts):
                return await self._services.prompts.jobs(self._incoming.caller.tenant, prompts)
            case NeedsStates(jobs):
                return await self._logs.read_all(jobs)

    async def _earlier(self, previous: str) -> Earlier:
        must = f"{_PREVIOUS} must be the id of a"
        try:
            stored = await self._stored(previous)
        except ResponseNotFound as error:
            raise InvalidRequest(f"{must} stored response. {error}", param=_PREVIOUS) from None
        if not stored.job.ended:
            raise InvalidRequest(f"{must} response that has ended; {previous} is not.", param=_PREVIOUS)
        if not stored.has_messages:
            raise InvalidRequest(f"{must} response; {previous} is a job that was cancelled.", param=_PREVIOUS)
        allowance = Allowance(self._most, too_long(_PREVIOUS, self._most))
        frames = await logged_frames(self._services, stored.job.id, allowance)
        self._incoming.work.size += len(stored.request) + len(frames)
        return Earlier(stored.job, stored.request, frames)

    async def _outputs(self, jobs: Sequence[str]) -> list[bytes]:
        """Return the output of these jobs as JSON; those of other tenants' jobs are not found."""
        allowance, found = Allowance(self._most, too_long("input", self._most)), []
        for job_id in jobs:
            try:
                stored = await self._stored(response_id(job_id))
            except ResponseNotFound:
                continue
            if stored.job.ended:
                frames = await logged_frames(self._services, job_id, allowance)
                heavy, by = self._services.heavy, self._incoming.by
                found.append(await heavy.run(by, len(frames), encoded_output, stored.options, frames))
        self._incoming.work.size += allowance.used
        return found

    async def _stored(self, response: str) -> Stored:
        return await stored_response(self._services, self._incoming.caller, self._incoming.by, response)


async def note_prompt(services: Services, job: Job, prompt: str | None) -> None:
    """Record the prompt of a job that may call tools, so that its state is found although its caller drops all ids."""
    if prompt is None:
        return
    keep_s = services.settings.retention_s + (job.deadline_ms - job.created_ms) / 1000
    try:
        await services.prompts.add(job.tenant, prompt, job.id, keep_s=keep_s)
    except REDIS_FAULTS as error:
        # The job exists. Most clients send ids back, so that nothing is lost for them.
        log.warning("responses.prompt_not_recorded", job=job.id, error=type(error).__name__)


class _Logs:
    """Read the logs for one request: each up to the size of a body, and all of them up to a few bodies."""

    def __init__(self, services: Services, incoming: Incoming) -> None:
        self._services = services
        self._incoming = incoming
        self._most = services.settings.max_body_bytes
        self._left = _STATE_BODIES * self._most

    async def read_all(self, jobs: Sequence[str]) -> list[LoggedAnswer]:
        """Read the states of the answers of these jobs; the state of a job that is not the caller's is empty.

        A response that is not to be stored counts too, because its caller has its calls already.
        """
        records = await self._services.store.load_many(jobs)
        return [await self._state(each) for each in records]

    async def _state(self, job: Job | BrokenJob | None) -> LoggedAnswer:
        if not isinstance(job, Job) or not readable(self._services, job, self._incoming.caller):
            return LoggedAnswer()
        return await self._read(job)

    async def _read(self, job: Job) -> LoggedAnswer:
        """Read the state of a job's answer; the state is empty if the log is too large."""
        if (known := self._services.answers.get(job.id)) is not None:
            return known
        reader = AnswerLog()
        try:
            async for frame in self._services.hub.replay_log.frames(job.id):
                self._left -= len(frame)
                reader.accept(frame)
                if self._left < 0 or reader.size > self._most:
                    return LoggedAnswer()
        except JobNotFound:
            return LoggedAnswer()  # it has expired since
        self._incoming.work.size += reader.size
        answer = await self._services.heavy.run(self._incoming.by, reader.size, reader.answer)
        if job.ended:
            self._services.answers.put(job.id, answer)
        return answer
