"""What came before a response: earlier responses, items that its input refers to, and the state of earlier answers.

Not here: routes (responses.py), and how items become messages (dialects/responses_request.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from gateway.api.services import Services
from gateway.api.stored_responses import Stored, readable, stored_response, whole_response
from gateway.auth import Caller
from gateway.dialects.answer_state import give_back, is_from, lacking, prefix_fingerprints, prompt_fingerprint
from gateway.dialects.logged_answer import AnswerLog, LoggedAnswer
from gateway.dialects.recent_answers import size_of
from gateway.dialects.response_item_ids import Item
from gateway.dialects.response_items import Answer, from_caller, messages_of
from gateway.dialects.response_object import response_id
from gateway.dialects.response_tools import ToolNames
from gateway.dialects.responses_request import ResponseRequest, chat_request, referenced_jobs, resolved
from gateway.dialects.tool_results import Message
from shared.bounds import REFERENCED_JOBS
from shared.errors import InvalidRequest, JobNotFound, ResponseNotFound
from shared.jobs import Job
from shared.valkey import REDIS_FAULTS

log = structlog.get_logger()


async def with_history(
    services: Services, caller: Caller, asked: ResponseRequest
) -> tuple[ResponseRequest, dict[str, Any]]:
    """Make the chat request of a response, earlier ones included; the request inherits from the previous one.

    Raises:
        InvalidRequest: there is no such response, it is not over, or the conversation has become too long.
    """
    earlier: Sequence[Message] = ()
    if asked.previous is not None:
        stored = await _previous(services, caller, asked.previous)
        asked = asked.after(stored.echo)
        earlier = await _conversation(services, stored)
    outputs = await _outputs(services, caller, referenced_jobs(asked.items))
    items = resolved([from_caller(item) for item in asked.items], outputs)
    chat, answers = chat_request(asked, earlier, items, services.settings.max_body_bytes)
    await _give_state_back(services, caller, chat["messages"], answers)
    return asked, chat


async def note_prompt(services: Services, job: Job, chat: Mapping[str, Any]) -> None:
    """Record the prompt of a job that may call tools, so that its state is found although its caller drops all ids."""
    if "tools" not in chat:
        return
    fingerprint = prompt_fingerprint(chat["messages"])
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
        raise InvalidRequest(f"{param} must be the id of a response that is over; {previous} is not.", param=param)
    return stored


async def _conversation(services: Services, stored: Stored) -> list[Message]:
    """Return what was said up to the end of an earlier response: its request holds all that came before it."""
    output = (await whole_response(services, stored.options))["output"]
    return messages_of(output, stored.messages, ToolNames.of(stored.echo))


async def _outputs(services: Services, caller: Caller, jobs: Sequence[str]) -> dict[str, Item]:
    """Return the output items of these jobs, by their ids; those of other tenants' jobs are not found."""
    if len(jobs) > REFERENCED_JOBS:
        raise InvalidRequest(f"input must refer to at most {REFERENCED_JOBS} responses' items.", param="input")
    found: dict[str, Item] = {}
    for job_id in jobs:
        try:
            stored = await stored_response(services, caller, response_id(job_id))
        except ResponseNotFound:
            continue
        if stored.job.ended:
            output = (await whole_response(services, stored.options))["output"]
            found |= {item["id"]: item for item in output}
    return found


# --- The state of answers


async def _give_state_back(
    services: Services, caller: Caller, messages: Sequence[Message], answers: Sequence[Answer]
) -> None:
    """Complete the latest answers that have called tools, from the logs of the caller's own jobs.

    A response that is not to be stored counts too, because its caller has its calls already.
    """
    wanted = lacking(answers, REFERENCED_JOBS)
    if not wanted:
        return
    candidates = await _jobs_of(services, caller, messages, wanted)
    ids = list(dict.fromkeys(job_id for jobs in candidates for job_id in jobs))
    jobs = {job.id: job for job in await services.store.load_many(ids) if isinstance(job, Job)} if ids else {}
    room = services.settings.max_body_bytes
    for answer, found in zip(reversed(wanted), reversed(candidates), strict=True):
        for job in (jobs[job_id] for job_id in found if job_id in jobs and readable(jobs[job_id], caller)):
            logged = await _logged(services, job)
            if not is_from(answer.message, logged):
                continue
            if (room := room - size_of(logged)) < 0:
                return  # the request must not outgrow a body by more than a body
            give_back(answer.message, logged)
            break


async def _jobs_of(
    services: Services, caller: Caller, messages: Sequence[Message], answers: Sequence[Answer]
) -> list[Sequence[str]]:
    """Return the jobs that may have given each answer: the one that its items name, or those with the same prompt."""
    nameless = {id(answer.message) for answer in answers if not answer.job}
    if not nameless:
        return [[answer.job] for answer in answers]
    ends = [at for at, message in enumerate(messages) if id(message) in nameless]
    found = iter(await services.prompts.jobs(caller.tenant, prefix_fingerprints(messages, frozenset(ends))))
    # Answers come in the order of their messages.
    return [[answer.job] if answer.job else next(found) for answer in answers]


async def _logged(services: Services, job: Job) -> LoggedAnswer:
    if (known := services.answers.get(job.id)) is not None:
        return known
    reader = AnswerLog()
    try:
        async for frame in services.hub.replay_log.frames(job.id):
            reader.accept(frame)
    except JobNotFound:
        return LoggedAnswer()  # it has expired since
    answer = reader.answer()
    if job.ended:
        services.answers.put(job.id, answer)
    return answer
