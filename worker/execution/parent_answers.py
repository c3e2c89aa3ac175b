"""Read the answers of a job's parents, and put them into its request.

They are read when the job begins and not copied before, and each is checked against the proof in its terminal event.
Not here: the references (shared/model/references.py), and the release of a job after its parents
(shared/store/waiting_jobs.py).
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any, Final

from shared.model.bounds import FILLED_BYTES, PAGE_BYTES
from shared.model.errors import JobNotFound, ParentGone, ParentsTooLarge
from shared.model.jobs import FLOAT_BYTES, Embedded, Job
from shared.model.lifecycle import State
from shared.model.references import Answer, fill, references_in
from shared.store.jobs import JobRecords
from shared.store.replay_log import ReplayLog
from shared.store.results import Results
from shared.store.retrying import retry_until_redis_answers
from worker.execution.ending import read_answer_text

# About the length of a number of a vector in JSON.
_NUMBER_CHARS: Final = 20


class ParentAnswers:
    """The answers of all parents."""

    def __init__(self, store: JobRecords, replay_log: ReplayLog, results: Results) -> None:
        self._store = store
        self._log = replay_log
        self._results = results

    async def fill(self, job: Job, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the request of a job with the answers of its parents in place of its references.

        Raises:
            ParentGone: the answer of a parent is not stored any more, or only a part of it.
            ParentsTooLarge: the answers are too large together.
        """
        if job.parents is None or not job.parents.jobs:
            return request
        names = list(dict.fromkeys(reference.name for reference in references_in(request)))
        parents = {name: job.parents.jobs[name] for name in names}
        if not parents:
            return request
        found = await retry_until_redis_answers(lambda: self._store.load_many(list(parents.values())))
        answers: dict[str, Answer] = {}
        for (name, job_id), parent in zip(parents.items(), found, strict=True):
            answer = None
            if isinstance(parent, Job) and parent.tenant == job.tenant and not parent.hidden:
                answer = await self._answer(parent)
            if answer is None:
                raise ParentGone(f"The answer of the job {job_id} ({name}) is not stored any more.")
            answers[name] = answer
        return fill(request, answers)

    async def _answer(self, parent: Job) -> Answer | None:
        """Read a parent's answer; None if it is not as its terminal event says. One that did not complete has none."""
        if parent.status is not State.COMPLETED:
            return Answer()
        if (embedded := parent.embedded) is not None:
            return await self._vectors(parent.id, embedded)
        if "result" in parent.outcome:
            value = parent.outcome["result"]
            return Answer(value if isinstance(value, str) else _as_text(value), value)
        return await self._text(parent)

    async def _text(self, parent: Job) -> Answer | None:
        try:
            digest = await retry_until_redis_answers(lambda: read_answer_text(self._log, parent.id, FILLED_BYTES))
        except JobNotFound:
            return None
        if digest.sha256 != parent.outcome.get("sha256"):
            return None
        if digest.is_too_large:
            raise ParentsTooLarge.at(FILLED_BYTES)
        return Answer(digest.text, digest.text)

    async def _vectors(self, job_id: str, embedded: Embedded) -> Answer | None:
        if embedded.size // FLOAT_BYTES * _NUMBER_CHARS > FILLED_BYTES:
            raise ParentsTooLarge.at(FILLED_BYTES)
        stored = await retry_until_redis_answers(lambda: self._stored(job_id, embedded.size))
        if hashlib.sha256(stored).hexdigest() != embedded.sha256:
            return None
        numbers = struct.unpack(f"<{len(stored) // FLOAT_BYTES}f", stored)
        vectors = [
            list(numbers[begin : begin + embedded.dimensions]) for begin in range(0, len(numbers), embedded.dimensions)
        ]
        return Answer(_as_text(vectors), vectors)

    async def _stored(self, job_id: str, size: int) -> bytes:
        return b"".join([page async for page in self._results.pages(job_id, size, PAGE_BYTES)])


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
