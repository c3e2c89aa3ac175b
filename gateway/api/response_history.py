"""Load a response's history: earlier responses, items that its input refers to, and the state of earlier answers.

Not here: routes (responses.py), and how items become messages (gateway/dialects/responses/request.py).
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import structlog

from gateway.admission.auth import Caller
from gateway.api.allowance import Allowance
from gateway.api.services import Services
from gateway.api.stored_responses import Stored, readable, stored_response, whole_response
from gateway.dialects.responses.answer_state import give_back, is_from, lacking, prefix_fingerprints, prompt_fingerprint
from gateway.dialects.responses.item_ids import Item
from gateway.dialects.responses.items import Answer, from_caller, messages_of
from gateway.dialects.responses.logged_answer import AnswerLog, LoggedAnswer
from gateway.dialects.responses.object import response_id
from gateway.dialects.responses.recent_answers import size_of
from gateway.dialects.responses.request import ResponseRequest, chat_request, referenced_jobs, resolved, too_long
from gateway.dialects.responses.tool_results import Message
from gateway.dialects.responses.tools import ToolNames
from gateway.http.heavy_work import RequestWork
from shared.model.bounds import REFERENCED_JOBS
from shared.model.errors import InvalidRequest, JobNotFound, ResponseNotFound
from shared.model.jobs import Job
from shared.store.client import REDIS_FAULTS

log = structlog.get_logger()

# Frames are several times as large as the state in them.
_STATE_BODIES = 4


async def with_history(
    services: Services, caller: Caller, asked: ResponseRequest, work: RequestWork
) -> tuple[ResponseRequest, dict[str, Any]]:
    """Make the chat request of a response, earlier ones included; the request inherits from the previous one.

    Raises:
        InvalidRequest: the response does not exist or has not ended, or the conversation has become too long.
    """
    most = services.settings.max_body_bytes
    earlier: Sequence[Message] = ()
    if asked.previous is not None:
        stored = await _previous(services, caller, asked.previous)
        work.size += most  # the size of its request is not known, but bounded
        asked = await work.run_here(asked.after, stored.echo)
        earlier = await _conversation(services, stored, Allowance(most, too_long("previous_response_id", most)), work)
    jobs = await work.run_here(referenced_jobs, asked.items)
    outputs = await _outputs(services, caller, jobs, Allowance(most, too_long("input", most)), work)
    items = await work.run_here(_items, asked, outputs, most)
    chat, answers = await work.run_here(chat_request, asked, earlier, items, most)
    await _give_state_back(services, caller, chat["messages"], answers, work)
    return asked, chat


def _items(asked: ResponseRequest, outputs: Mapping[str, Item], most: int) -> list[Item]:
    return resolved([from_caller(item) for item in asked.items], outputs, most)


async def note_prompt(services: Services, job: Job, chat: Mapping[str, Any], work: RequestWork) -> None:
    """Record the prompt of a job that may call tools, so that its state is found although its caller drops all ids."""
    if "tools" not in chat:
        return
    fingerprint = await work.run_here(prompt_fingerprint, chat["messages"])
    keep_s = services.settings.retention_s + (job.deadline_ms - job.created_ms) / 1000
    try:
        await services.prompts.add(job.tenant, fingerprint, job.id, keep_s=keep_s)
    except REDIS_FAULTS as error:
        # The job exists. Most clients send ids back, so that nothing is lost for them.
        log.warning("responses.prompt_not_recorded", job=job.id, error=type(error).__name__)


async def _previous(services: Services, caller: Caller, previous: str) -> Stored:
    param = "previous_response_id"
    try:
        stored = await stored_response(services, caller, previous)
    except ResponseNotFound as error:
        raise InvalidRequest(f"{param} must be the id of a stored response. {error}", param=param) from None
    if not stored.job.ended:
        raise InvalidRequest(f"{param} must be the id of a response that has ended; {previous} is not.", param=param)
    if not stored.has_request:
        raise InvalidRequest(
            f"{param} must be the id of a response; {previous} is a job that was cancelled.", param=param
        )
    return stored


async def _conversation(services: Services, stored: Stored, allowance: Allowance, work: RequestWork) -> list[Message]:
    """Return the messages up to the end of an earlier response: its request holds all that came before it."""
    output = (await whole_response(services, stored.options, allowance))["output"]
    work.size += allowance.used
    names = await work.run_here(ToolNames.of, stored.echo)
    return await work.run_here(messages_of, output, stored.messages, names)


async def _outputs(
    services: Services, caller: Caller, jobs: Sequence[str], allowance: Allowance, work: RequestWork
) -> dict[str, Item]:
    """Return the output items of these jobs, by their ids; those of other tenants' jobs are not found."""
    if len(jobs) > REFERENCED_JOBS:
        raise InvalidRequest(f"input must refer to the items of at most {REFERENCED_JOBS} responses.", param="input")
    found: dict[str, Item] = {}
    for job_id in jobs:
        try:
            stored = await stored_response(services, caller, response_id(job_id))
        except ResponseNotFound:
            continue
        if stored.job.ended:
            output = (await whole_response(services, stored.options, allowance))["output"]
            found |= {item["id"]: item for item in output}
    work.size += allowance.used
    return found


# --- The state of answers


async def _give_state_back(
    services: Services, caller: Caller, messages: Sequence[Message], answers: Sequence[Answer], work: RequestWork
) -> None:
    """Complete the latest answers that have called tools, from the logs of the caller's own jobs.

    A response that is not to be stored counts too, because its caller has its calls already.
    """
    wanted = await work.run_here(lacking, answers, REFERENCED_JOBS)
    if not wanted:
        return
    candidates = await _jobs_of(services, caller, messages, wanted, work)
    ids = list(dict.fromkeys(job_id for jobs in candidates for job_id in jobs))
    jobs = {job.id: job for job in await services.store.load_many(ids) if isinstance(job, Job)} if ids else {}
    room = services.settings.max_body_bytes
    logs = _Logs(services)
    for answer, found in zip(reversed(wanted), reversed(candidates), strict=True):
        for job in (jobs[job_id] for job_id in found if job_id in jobs and readable(services, jobs[job_id], caller)):
            logged = await logs.read(job)
            if not is_from(answer.message, logged):
                continue
            if (room := room - size_of(logged)) < 0:
                return  # the request must not outgrow a body by more than a body
            give_back(answer.message, logged)
            break


async def _jobs_of(
    services: Services, caller: Caller, messages: Sequence[Message], answers: Sequence[Answer], work: RequestWork
) -> list[Sequence[str]]:
    """Return the jobs that may have given each answer: the one that its items name, or those with the same prompt."""
    nameless = {id(answer.message) for answer in answers if not answer.job}
    if not nameless:
        return [[answer.job] for answer in answers]
    prompts = await work.run_here(_prompts_before, messages, nameless)
    found = iter(await services.prompts.jobs(caller.tenant, prompts))
    # Answers come in the order of their messages.
    return [[answer.job] if answer.job else next(found) for answer in answers]


def _prompts_before(messages: Sequence[Message], answers: Container[int]) -> list[str]:
    ends = frozenset(at for at, message in enumerate(messages) if id(message) in answers)
    return prefix_fingerprints(messages, ends)


class _Logs:
    """Read the logs for one request: each up to the size of a body, and all of them up to a few bodies."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._most = services.settings.max_body_bytes
        self._left = _STATE_BODIES * self._most

    async def read(self, job: Job) -> LoggedAnswer:
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
        answer = await self._services.heavy.run_here(reader.size, reader.answer)
        if job.ended:
            self._services.answers.put(job.id, answer)
        return answer
