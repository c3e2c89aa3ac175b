"""Load existing responses: check the caller's access, and read the response of an ended job.

A response's id is its job's under another name, so that any chat job can be read here. Not here: routes (responses.py),
and how a stored job is shown (gateway/preparation/stored_answer.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.api.allowance import Allowance
from gateway.api.services import Services
from gateway.dialects.responses.object import ResponseOptions, job_id_of, response_id
from gateway.http.heavy_work import Requester
from gateway.model.auth import Caller
from gateway.preparation.stored_answer import encoded_response, kept_fields, options_of
from shared.model.errors import BrokenJob, JobNotFound, ResponseNotFound
from shared.model.events import data_size
from shared.model.jobs import Job, is_job_id


class Stored(NamedTuple):
    """Hold a job as this dialect sees it: its record, its stored request, and the fields that its response repeats.

    `has_messages`: its messages are stored, too.
    """

    job: Job
    request: bytes
    echo: Mapping[str, Any]
    has_messages: bool

    @property
    def options(self) -> ResponseOptions:
        """Return everything that its translation depends on."""
        return options_of(self.job, self.echo)


async def stored_response(services: Services, caller: Caller, by: Requester, response: str) -> Stored:
    """Load the response with this id; another tenant's looks missing (invariant 11).

    Raises:
        ResponseNotFound: it does not exist, or may not be retrieved.
    """
    job_id, missing = job_id_of(response), missing_response(response)
    if not is_job_id(job_id):
        raise missing
    try:
        job, request = await services.store.load_with_stored(job_id)
        if not readable(services, job, caller):
            raise missing
        kept = await services.heavy.run(by, len(request), kept_fields, request)
    except (JobNotFound, BrokenJob):
        raise missing from None
    if not kept.echo.get("store", True):
        raise missing
    return Stored(job, request, kept.echo, kept.has_messages)


def readable(services: Services, job: Job, caller: Caller) -> bool:
    """Return whether this is a chat job of the caller's that has not been deleted."""
    return job.tenant == caller.tenant and not job.hidden and services.kinds.streams_text(job.kind)


async def response_json(services: Services, by: Requester, options: ResponseOptions) -> bytes:
    """Return the response of a job that has ended as JSON.

    Raises:
        ResponseNotFound: it has expired since.
    """
    frames = await logged_frames(services, options.job_id)
    return await services.heavy.run(by, len(frames), encoded_response, options, frames)


async def logged_frames(services: Services, job_id: str, allowance: Allowance | None = None) -> bytes:
    """Read all frames of a job's log, if their data is within the `allowance`.

    Raises:
        ResponseNotFound: it has expired since.
        InvalidRequest: it is larger than allowed.
    """
    frames = bytearray()
    try:
        async for frame in services.hub.replay_log.frames(job_id):
            if allowance is not None:
                allowance.take(data_size(frame))
            frames += frame
    except JobNotFound:
        raise missing_response(response_id(job_id)) from None
    return bytes(frames)


def missing_response(response: str) -> ResponseNotFound:
    """Make the error for a response that the caller can't read."""
    return ResponseNotFound(f"There is no response {response}.", param="response_id")
