"""What came before a response: earlier responses, items that its input refers to, and the state of its calls.

Not here: routes (responses.py), and how items become messages (dialects/responses_request.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.api.services import Services
from gateway.api.stored_responses import Stored, readable, stored_response, whole_response
from gateway.auth import Caller
from gateway.dialects.call_extras import LoggedExtras, calling_jobs, with_extras
from gateway.dialects.recent_extras import ExtrasByCall
from gateway.dialects.response_item_ids import Item
from gateway.dialects.response_items import messages_of
from gateway.dialects.response_object import response_id
from gateway.dialects.response_tools import ToolNames
from gateway.dialects.responses_request import ResponseRequest, chat_request, referenced_jobs, resolved
from gateway.dialects.tool_results import Message
from shared.bounds import REFERENCED_JOBS
from shared.errors import InvalidRequest, JobNotFound, ResponseNotFound
from shared.events import encode_data
from shared.jobs import Job


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
    extras = await _extras(services, caller, asked.items)
    outputs = await _outputs(services, caller, referenced_jobs(asked.items))
    items = resolved(with_extras(asked.items, extras), outputs)
    return asked, chat_request(asked, earlier, items, services.settings.max_body_bytes)


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


async def _extras(services: Services, caller: Caller, items: Sequence[Item]) -> Mapping[str, ExtrasByCall]:
    """Return the further fields of calls that the caller's own jobs have made, by job and call id.

    The latest jobs count: upstreams demand the state of the turn that is going on. A response that is not to be stored
    counts too, because its caller has its calls already.
    """
    if not (jobs := calling_jobs(items, REFERENCED_JOBS)):
        return {}
    found: dict[str, ExtrasByCall] = {}
    room = services.settings.max_body_bytes
    for job in await services.store.load_many(jobs):
        if isinstance(job, Job) and readable(job, caller):
            extras = await _of_job(services, job)
            room -= len(encode_data(extras))
            if room < 0:
                break  # the request must not outgrow a body by more than a body
            found[job.id] = extras
    return found


async def _of_job(services: Services, job: Job) -> ExtrasByCall:
    if (known := services.extras.get(job.id)) is not None:
        return known
    logged = LoggedExtras()
    try:
        async for frame in services.hub.replay_log.frames(job.id):
            logged.accept(frame)
    except JobNotFound:
        return {}  # it has expired since
    extras = logged.by_call()
    if job.ended:
        services.extras.put(job.id, extras)
    return extras
