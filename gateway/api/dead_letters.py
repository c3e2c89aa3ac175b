"""Serve the dead letter API for admin keys: list, show, requeue and delete jobs that failed for good.

Requeueing a dead letter creates a new job of its tenant. The dead letter's own end is unchanged; it stays listed, but
is not open any more. A deleted one is an ordinary failed job again, which its tenant can read for as long as any other.
Not here: which jobs become dead letters (worker/execution/completion.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.jobs import JOB_HEADER, about, events_link, read_limit, show, shown_time
from gateway.api.services import Services, services_of
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem
from gateway.model.auth import Caller
from shared.model.bounds import LIST_MOST, LIST_ROUNDS
from shared.model.errors import (
    BrokenJob,
    DeadLetterNotFound,
    InvalidRequest,
    JobNotFound,
    TailraceError,
    problem_of,
)
from shared.model.jobs import Job, is_job_id
from shared.store.dead_letters import Listed

log = structlog.get_logger()

_REQUEUED = {"false": False, "true": True, "any": None}
_FILTERS = ("tenant", "code", "model", "requeued")
_PAGING = ("limit", "after")
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Select the dead letters that a request is about; a filter of None accepts all."""

    tenant: str | None
    code: str | None
    model: str | None
    requeued: bool | None
    limit: int
    after: Listed | None

    def passes(self, job: Job | BrokenJob) -> bool:
        """Return whether a job is selected. An unreadable record has no fields to compare."""
        if isinstance(job, BrokenJob):
            return self.requeued is not True and (self.tenant, self.code, self.model) == (None, None, None)
        return (
            self.tenant in (None, job.tenant)
            and self.code in (None, job.error_code)
            and self.model in (None, job.model)
            and self.requeued in (None, job.requeued_as is not None)
        )


class Letter(NamedTuple):
    """Hold a dead letter: its place in the list, and its job, if this version can read it."""

    place: Listed
    job: Job | BrokenJob


class LetterPage(NamedTuple):
    """Hold the dead letters that were found, and the place to continue after; None: the list has ended."""

    letters: Sequence[Letter]
    following: Listed | None

    @property
    def ids(self) -> list[str]:
        """Return the ids of their jobs."""
        return [letter.place.job_id for letter in self.letters]

    def answer(self, data: list[dict[str, Any]], **more: int) -> Response:
        """Answer with the page as a list of `data`."""
        following = None if self.following is None else str(self.following)
        body = {"object": "list", **more, "data": data, "has_more": following is not None, "next": following}
        return AsciiJSONResponse(body)


async def listing(request: Request) -> Response:
    """Serve `GET /v1/dead-letters?tenant=&code=&model=&requeued=&limit=&after=`, the latest failure first.

    A narrow filter may give a short or an empty page with `has_more`: continue after `next`.
    """
    services, _ = _admitted(request)
    page = await _find(services, _wanted(request))
    return page.answer([_show(letter, services) for letter in page.letters])


async def get(request: Request) -> Response:
    """Serve `GET /v1/dead-letters/{id}`: the dead letter, with its request and a link to its events."""
    services, caller = _admitted(request)
    letter, asked = await _load(services, _named(request))
    shown = _show(letter, services)
    shown["links"]["events"] = events_link(letter.place.job_id, services.links, caller)
    return AsciiJSONResponse({**shown, "request": None if asked is None else asked.request})


async def requeue(request: Request) -> Response:
    """Serve `POST /v1/dead-letters/{id}/requeue`: idempotent; the new job, as submitting it would show it."""
    services, caller = _admitted(request)
    services.refuse_if_draining()
    job_id = _named(request)
    job = await _requeue(services, job_id, caller)
    shown = {**show(services, job, caller), "tenant": job.tenant}
    return AsciiJSONResponse(shown, 202, {"location": shown["links"]["self"], JOB_HEADER: job.id})


async def requeue_many(request: Request) -> Response:
    """Serve `POST /v1/dead-letters/requeue?…`: requeue up to `limit` open ones, and return each one's outcome."""
    services, caller = _admitted(request)
    services.refuse_if_draining()
    page = await _find(services, _wanted(request, many=True))
    results: list[dict[str, Any]] = []
    for job_id in page.ids:
        try:
            job = await _requeue(services, job_id, caller)
        except TailraceError as error:
            results.append({"id": job_id, "requeued_as": None, "error": problem_of(error)})
        else:
            results.append({"id": job_id, "requeued_as": job.id, "error": None})
    failed = sum(each["error"] is not None for each in results)
    return page.answer(results, requeued=len(results) - failed, failed=failed)


async def delete(request: Request) -> Response:
    """Serve `DELETE /v1/dead-letters/{id}`: idempotent, as long as its job can be read."""
    services, caller = _admitted(request)
    job_id = _named(request)
    if not await _delete(services, job_id, caller):
        raise _missing(job_id)
    return AsciiJSONResponse(_deleted(job_id))


async def delete_many(request: Request) -> Response:
    """Serve `DELETE /v1/dead-letters?…`: delete up to `limit` of them."""
    services, caller = _admitted(request)
    page = await _find(services, _wanted(request, many=True))
    results = [_deleted(job_id) for job_id in page.ids if await _delete(services, job_id, caller)]
    return page.answer(results, deleted=len(results))


# Actions.


async def _find(services: Services, wanted: Wanted) -> LetterPage:
    found: list[Letter] = []
    last_read, over = wanted.after, False
    for _ in range(LIST_ROUNDS):
        listed = await services.dead_letters.listed(last_read, LIST_MOST, only_open=wanted.requeued is False)
        jobs = await services.store.load_many([each.job_id for each in listed])
        letters = [Letter(place, job) for place, job in zip(listed, jobs, strict=True) if _is_one(job)]
        await _mend(services, listed, letters, only_open=wanted.requeued is False)
        found += [letter for letter in letters if wanted.passes(letter.job)]
        over = len(listed) < LIST_MOST
        last_read = listed[-1] if listed else last_read
        if over or len(found) > wanted.limit:
            break
    page = found[: wanted.limit]
    if len(found) > wanted.limit:
        return LetterPage(page, page[-1].place)
    return LetterPage(page, None if over else last_read)


async def _mend(services: Services, listed: Sequence[Listed], letters: Sequence[Letter], *, only_open: bool) -> None:
    """Correct the list by the records: a process may have died after it wrote one and before the other."""
    ids = {letter.place.job_id for letter in letters}
    await services.dead_letters.drop(each.job_id for each in listed if each.job_id not in ids)
    for job in (letter.job for letter in letters):
        if only_open and isinstance(job, Job) and job.requeued_as is not None:
            await services.dead_letters.requeued(job.id, job.requeued_as)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold a dead letter's request, and the fields that its dialect stores with it."""

    request: dict[str, Any]
    kept: dict[str, Any]


async def _load(services: Services, job_id: str) -> tuple[Letter, _Asked | None]:
    """Load a dead letter and its request, without the request if it can't be read.

    Raises:
        DeadLetterNotFound: no dead letter has this id.
    """
    try:
        job, request, kept = await services.store.load_with_kept(job_id)
    except JobNotFound:
        raise _missing(job_id) from None
    except BrokenJob:
        (found,) = await services.store.load_many([job_id])
        place = await services.dead_letters.place(job_id)  # the list knows the place of an unreadable record too
        if place is None or not _is_one(found):
            raise _missing(job_id) from None
        return Letter(place, found), None
    if not job.dead_letter:
        raise _missing(job_id)
    return Letter(Listed(job_id, job.ended_ms), job), _Asked(request, kept)


async def _requeue(services: Services, job_id: str, caller: Caller) -> Job:
    """Submit the dead letter's request again and return the new job: the same one on every call, by any caller.

    Admission identifies a dead letter by an idempotency key of its own, until the record names the new job.
    """
    (_, letter), asked = await _load(services, job_id)
    if isinstance(letter, BrokenJob):
        raise letter
    if letter.requeued_as is not None:
        (job,) = await services.store.load_many([letter.requeued_as])
        if not isinstance(job, Job) or job.hidden:
            raise JobNotFound(f"{job_id} was requeued as {letter.requeued_as}, which no longer exists.")
        return job
    if asked is None:
        raise BrokenJob("The job's request can't be read.")
    spec = services.admission.specs.again(letter, asked.request, asked.kept, services.admission.new_id())
    job = await services.admission.submit(spec)
    await services.dead_letters.requeued(job_id, job.id)
    log.info("dead_letter.requeued", job=job_id, requeued_as=job.id, tenant=letter.tenant, by=caller.tenant)
    return job


async def _delete(services: Services, job_id: str, caller: Caller) -> bool:
    deleted = await services.dead_letters.dismiss(job_id)
    if deleted:
        log.info("dead_letter.deleted", job=job_id, by=caller.tenant)
    return deleted


# Queries.


def _admitted(request: Request) -> tuple[Services, Caller]:
    services = services_of(request)
    return services, services.keyring.admin(request.headers.get("authorization"))


def _named(request: Request) -> str:
    job_id: str = request.path_params["job_id"]
    if not is_job_id(job_id):
        raise _missing(job_id)
    return job_id


def _wanted(request: Request, *, many: bool = False) -> Wanted:
    """Read the selection. An action on `many` needs at least one filter, or an explicit request for all of them."""
    query = request.query_params
    known = (*_FILTERS, *_PAGING, *((_ALL,) if many else ()))
    for name in query:
        if name not in known:
            raise InvalidRequest(f"{name} is not a filter; the filters are: {', '.join(known)}.", param=name)
    if query.get(_ALL, "true") != "true":
        raise InvalidRequest("all must be true, or left out.", param=_ALL)
    if many and _ALL not in query and not any(name in query for name in _FILTERS):
        raise InvalidRequest(
            f"Select dead letters with {', '.join(_FILTERS)}, or all of them with all=true.", param=_ALL
        )
    requeued = query.get("requeued", "false")
    if requeued not in _REQUEUED:
        raise InvalidRequest(f"requeued must be one of: {', '.join(_REQUEUED)}.", param="requeued")
    return Wanted(
        tenant=query.get("tenant"),
        code=query.get("code"),
        model=query.get("model"),
        requeued=_REQUEUED[requeued],
        limit=read_limit(query, LIST_MOST if many else None),
        after=Listed.parse(query["after"]) if "after" in query else None,
    )


# Answers.


def _show(letter: Letter, services: Services) -> dict[str, Any]:
    (job_id, ended_ms), job = letter
    address = services.links.address(f"/v1/dead-letters/{job_id}")
    shown = {"self": address, "requeue": f"{address}/requeue"}
    if isinstance(job, Job):
        return {**about(job, services.kinds), "object": "dead_letter", "tenant": job.tenant, "links": shown}
    ended_at = shown_time(ended_ms)
    return {"id": job_id, "object": "dead_letter", "ended_at": ended_at, "error": problem_of(job), "links": shown}


def _is_one(job: Job | BrokenJob | None) -> TypeGuard[Job | BrokenJob]:
    """Return whether a listed job is still a dead letter; an unreadable one is assumed to be."""
    return isinstance(job, BrokenJob) or (job is not None and job.dead_letter)


def _missing(job_id: str) -> DeadLetterNotFound:
    return DeadLetterNotFound(f"There is no dead letter {job_id}.")


def _deleted(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "object": "dead_letter", "deleted": True}


face = Face(
    "/v1/dead-letters",
    problem,
    [
        Route("/v1/dead-letters", listing, methods=["GET"]),
        Route("/v1/dead-letters", delete_many, methods=["DELETE"]),
        Route("/v1/dead-letters/requeue", requeue_many, methods=["POST"]),
        Route("/v1/dead-letters/{job_id}", get, methods=["GET"]),
        Route("/v1/dead-letters/{job_id}", delete, methods=["DELETE"]),
        Route("/v1/dead-letters/{job_id}/requeue", requeue, methods=["POST"]),
    ],
)
