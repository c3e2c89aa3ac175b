"""Load existing responses: check the caller's access, and build the response of an ended job.

A response's id is its job's under another name, so that any chat job can be read here. Not here: routes (responses.py),
and the wire format (dialects/responses).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.admission.auth import Caller
from gateway.api.allowance import Allowance
from gateway.api.services import Services
from gateway.dialects.responses.object import ResponseOptions, job_id_of, response_id
from gateway.dialects.responses.request import said_before
from gateway.dialects.responses.stream import WholeResponse
from gateway.dialects.responses.tool_results import Message
from shared.model.errors import BrokenJob, JobNotFound, ResponseNotFound
from shared.model.events import decode_frame
from shared.model.jobs import Job, is_job_id


class Stored(NamedTuple):
    """Hold a job as this dialect sees it: its record, its chat request, and the fields that its response repeats."""

    job: Job
    chat: Mapping[str, Any]
    echo: Mapping[str, Any]

    @property
    def options(self) -> ResponseOptions:
        """Return everything that its translation depends on."""
        return options_of(self.job, self.echo)

    @property
    def has_request(self) -> bool:
        """Return whether its messages are stored: those of a job without an answer may not be."""
        return "messages" in self.chat

    @property
    def messages(self) -> Sequence[Message]:
        """Return the messages that its model was given, except for the instructions."""
        return said_before(self.chat.get("messages", ()), self.echo)


def options_of(job: Job, echo: Mapping[str, Any]) -> ResponseOptions:
    """Return everything that the translation of a job depends on."""
    # A job that was not a response counts as a background one if it continues without its caller.
    background = bool(echo.get("background", job.background))
    return ResponseOptions(job.id, job.model, background, job.metadata, echo)


async def stored_response(services: Services, caller: Caller, response: str) -> Stored:
    """Load the response with this id; another tenant's looks missing (invariant 11).

    Raises:
        ResponseNotFound: it does not exist, or may not be retrieved.
    """
    job_id, missing = job_id_of(response), _missing(response)
    if not is_job_id(job_id):
        raise missing
    try:
        job, chat, echo = await services.store.load_with_kept(job_id)
    except (JobNotFound, BrokenJob):
        raise missing from None
    if not readable(services, job, caller) or not echo.get("store", True):
        raise missing
    return Stored(job, chat, echo)


def readable(services: Services, job: Job, caller: Caller) -> bool:
    """Return whether this is a chat job of the caller's that has not been deleted."""
    return job.tenant == caller.tenant and not job.hidden and services.kinds.streams_text(job.kind)


async def whole_response(
    services: Services, options: ResponseOptions, allowance: Allowance | None = None
) -> dict[str, Any]:
    """Return the response of a job that has ended, if its log is within the `allowance`.

    Raises:
        ResponseNotFound: it has expired since.
        InvalidRequest: it is larger than allowed.
    """
    whole, size = WholeResponse(options), 0
    try:
        async for frame in services.hub.replay_log.frames(options.job_id):
            event = decode_frame(frame)
            size += len(event.data)
            if allowance is not None:
                allowance.take(len(event.data))
            whole.accept(event)
    except JobNotFound:
        raise _missing(response_id(options.job_id)) from None
    return await services.heavy.run_here(size, whole.body)


def _missing(response: str) -> ResponseNotFound:
    return ResponseNotFound(f"There is no response {response}.", param="response_id")
