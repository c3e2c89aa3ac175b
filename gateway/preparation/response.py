"""Prepare a request of `POST /v1/responses`. Pure.

A request may need earlier responses, of which only their ids are known here. So it is prepared by steps: each ends
with a need, and the next one begins anew with all that was found so far. Most requests need nothing. Not here: how
something is found (gateway/api/response_history.py), and the fields (gateway/dialects/responses).
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.dialects.responses.answer_state import give_back, is_from, lacking, prefix_fingerprints, prompt_fingerprint
from gateway.dialects.responses.fields import in_own_words
from gateway.dialects.responses.item_ids import Item
from gateway.dialects.responses.items import Answer, from_caller, messages_of
from gateway.dialects.responses.logged_answer import LoggedAnswer
from gateway.dialects.responses.recent_answers import size_of
from gateway.dialects.responses.request import (
    ResponseRequest,
    chat_request,
    read_request,
    referenced_jobs,
    resolved,
    said_before,
)
from gateway.dialects.responses.tool_results import Message
from gateway.dialects.responses.tools import ToolNames
from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from gateway.preparation.stored_answer import options_of, whole_response
from gateway.specs.job_request import JobRequest
from gateway.specs.validation import read_metadata
from shared.model.bounds import REFERENCED_JOBS
from shared.model.errors import InvalidRequest
from shared.model.jobs import Job, JobSpec, OnDisconnect
from shared.model.stored_request import parse_request


@dataclass(frozen=True, slots=True)
class NeedsPrevious:
    """The request continues this response: an `Earlier` is needed."""

    response: str


@dataclass(frozen=True, slots=True)
class NeedsOutputs:
    """The request refers to items of these jobs: the output of each that can be found is needed, as JSON."""

    jobs: Sequence[str]


@dataclass(frozen=True, slots=True)
class NeedsJobs:
    """Answers have lost the ids of their jobs: the jobs with each of these prompts are needed."""

    prompts: Sequence[str]


@dataclass(frozen=True, slots=True)
class NeedsStates:
    """Answers may have lost their state: a `LoggedAnswer` is needed of each of these jobs."""

    jobs: Sequence[str]


Need = NeedsPrevious | NeedsOutputs | NeedsJobs | NeedsStates
_Steps = Generator[Need, Any, "PreparedResponse"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """Hold an ended response: its job, the stored request, and all frames of its log."""

    job: Job
    request: bytes
    frames: bytes


@dataclass(frozen=True, slots=True)
class PreparedResponse:
    """Hold the spec of a job, and the facts with which its response is shown.

    `echo` has the fields that the response repeats, `unknown` names those that were left out. `prompt` identifies the
    prompt of a job that may call tools.
    """

    spec: JobSpec
    streaming: bool
    background: bool
    echo: Mapping[str, Any]
    unknown: Sequence[str]
    prompt: str | None


def prepare_response(raw: bytes, head: RequestHead, most: int, found: Sequence[object]) -> Need | PreparedResponse:
    """Prepare a request from its body and all that was `found` so far, in the order of the needs.

    Earlier responses are read up to `most` bytes.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    steps = _steps(raw, head, most)
    try:
        need = next(steps)
        for each in found:
            need = steps.send(each)
    except StopIteration as end:
        prepared: PreparedResponse = end.value
        return prepared
    return need


def _steps(raw: bytes, head: RequestHead, most: int) -> _Steps:
    body = decode_object(raw)
    asked = read_request(body)
    earlier: Sequence[Message] = ()
    if asked.previous is not None:
        asked, earlier = _continued(asked, (yield NeedsPrevious(asked.previous)))
    outputs: dict[str, Item] = {}
    if jobs := referenced_jobs(asked.items):
        if len(jobs) > REFERENCED_JOBS:
            must = f"input must refer to the items of at most {REFERENCED_JOBS} responses."
            raise InvalidRequest(must, param="input")
        outputs = {item["id"]: item for output in (yield NeedsOutputs(jobs)) for item in json.loads(output)}
    items = resolved([from_caller(item) for item in asked.items], outputs, most)
    chat, answers = chat_request(asked, earlier, items, most)
    yield from _give_state_back(chat["messages"], answers, most)
    try:
        spec = head.specs.admit(_call(head, body, asked, chat), head.caller, head.job_id)
    except InvalidRequest as error:
        raise in_own_words(error) from None
    prompt = prompt_fingerprint(chat["messages"]) if "tools" in chat else None
    return PreparedResponse(spec, asked.streaming, asked.background, asked.echo, asked.unknown, prompt)


def _call(head: RequestHead, body: Mapping[str, Any], asked: ResponseRequest, chat: Mapping[str, Any]) -> JobRequest:
    """Build the call of a response; in the background it lives without its caller, which may read it nevertheless."""
    return JobRequest(
        "responses",
        chat,
        body,
        head.options,
        head.key,
        on_disconnect=OnDisconnect.CONTINUE if asked.background else OnDisconnect.CANCEL,
        metadata=read_metadata(body.get("metadata")),
        watched=asked.streaming or not asked.background,
        streaming=asked.streaming,
        kept=asked.echo,
    )


def _continued(asked: ResponseRequest, earlier: Earlier) -> tuple[ResponseRequest, list[Message]]:
    """Return the request with the tools that it inherits, and the messages up to the end of the earlier response."""
    chat, echo = parse_request(earlier.request)
    output = whole_response(options_of(earlier.job, echo), earlier.frames)["output"]
    # Its request holds all that came before it.
    messages = messages_of(output, said_before(chat["messages"], echo), ToolNames.of(echo))
    return asked.after(echo), messages


# --- The state of answers


def _give_state_back(messages: Sequence[Message], answers: Sequence[Answer], most: int) -> Generator[Need, Any, None]:
    """Complete the latest answers that have called tools, up to `most` bytes of state."""
    wanted = lacking(answers, REFERENCED_JOBS)
    if not wanted:
        return
    candidates = yield from _jobs_of(messages, wanted)
    states = yield from _states_of(wanted, candidates)
    room = most
    for answer, state in zip(reversed(wanted), reversed(states), strict=True):
        if state is None:
            continue
        if (room := room - size_of(state)) < 0:
            return
        give_back(answer.message, state)


def _jobs_of(messages: Sequence[Message], answers: Sequence[Answer]) -> Generator[Need, Any, list[Sequence[str]]]:
    """Return the jobs that may have given each answer: the one that its items name, or those with the same prompt."""
    nameless = {id(answer.message) for answer in answers if not answer.job}
    if not nameless:
        return [[answer.job] for answer in answers]
    ends = frozenset(at for at, message in enumerate(messages) if id(message) in nameless)
    found = iter((yield NeedsJobs(prefix_fingerprints(messages, ends))))
    # Answers come in the order of their messages.
    return [[answer.job] if answer.job else next(found) for answer in answers]


def _states_of(
    answers: Sequence[Answer], candidates: Sequence[Sequence[str]]
) -> Generator[Need, Any, list[LoggedAnswer | None]]:
    """Return the state of each answer, from the first of its candidates that has given it."""
    states: dict[str, LoggedAnswer] = {}
    pairs = list(zip(answers, candidates, strict=True))
    while asked := _next_candidates(pairs, states):
        states |= zip(asked, (yield NeedsStates(asked)), strict=True)
    return [_state(answer, jobs, states) for answer, jobs in pairs]


def _next_candidates(pairs: Sequence[tuple[Answer, Sequence[str]]], states: Mapping[str, LoggedAnswer]) -> list[str]:
    """Return the next candidate of each answer without a found state, the latest answer's first."""
    lost = (jobs for answer, jobs in reversed(pairs) if _state(answer, jobs, states) is None)
    return list(dict.fromkeys(job for jobs in lost for job in [job for job in jobs if job not in states][:1]))


def _state(answer: Answer, jobs: Sequence[str], states: Mapping[str, LoggedAnswer]) -> LoggedAnswer | None:
    known = (states[job] for job in jobs if job in states)
    return next((state for state in known if is_from(answer.message, state)), None)
