"""Workflows in Redis: a record with the jobs of the steps, which is also the gate of the first steps.

Not here: the jobs themselves (jobs.py, waiting_jobs.py), and the order of a submit (gateway/admission).
"""

import json
from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from shared.model.errors import IdempotencyConflict, TooManyBytes, Unavailable, WorkflowNotFound
from shared.model.events import encode_data
from shared.model.jobs import LONGEST_TIMEOUT_S, Job
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import TenantBounds
from shared.model.workflows import NewWorkflow, Workflow
from shared.store.client import Functions
from shared.store.job_counts import JobCounts
from shared.store.keys import Keys

RECORDING_S: Final = 60.0
"""The steps of a workflow have to be recorded within this time. If their gateway died, they fail after it."""


class Workflows:
    """The workflows of all tenants."""

    def __init__(self, client: Redis, keys: Keys, *, retention_s: float, metrics: Metrics | None = None) -> None:
        """Store a workflow for `retention_s` after the last of its steps can have ended."""
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        # Each step may wait for a week.
        self._kept_ms = int((LONGEST_TIMEOUT_S + retention_s) * 1000)
        self._counts = JobCounts(metrics or Metrics())

    async def create(self, new: NewWorkflow, steps: Mapping[str, str], bounds: TenantBounds) -> Workflow:
        """Store a workflow whose steps are to be recorded; or return the one that its Idempotency-Key has made before.

        Raises:
            TooManyBytes: the tenant stores as many bytes as new jobs may fill.
            IdempotencyConflict: the key was used for another workflow.
            Unavailable: the steps of the workflow that the key has made are not recorded yet.
        """
        most = "" if bounds.bytes_of_new is None else bounds.bytes_of_new
        data, base = encode_data(dict(steps)), self._keys.kept_bytes(new.tenant)
        args = (new.tenant, data, int(RECORDING_S * 1000), base, most, new.id, new.fingerprint)
        answer = await self._functions.call("create_workflow", self._redis_keys(new), *args)
        match [part.decode() for part in answer]:
            case ["created", created_ms]:
                return Workflow(new.id, new.tenant, int(created_ms), steps)
            case ["existing", workflow_id]:
                return await self._former(workflow_id)
            case ["conflict", workflow_id]:
                raise IdempotencyConflict(
                    f"The Idempotency-Key was used with another body: it made the workflow {workflow_id}.",
                    param="Idempotency-Key",
                )
            case _:
                self._counts.refused_for_bytes()
                raise TooManyBytes.at(bounds.bytes or 0)

    async def _former(self, workflow_id: str) -> Workflow:
        try:
            return await self.load(workflow_id)
        except WorkflowNotFound:
            raise Unavailable("The workflow of this Idempotency-Key is still being recorded; try again.") from None

    async def open(self, new: NewWorkflow) -> bool:
        """Let the first steps start; False if recording the steps took too long. Idempotent."""
        args = (self._keys.kept_bytes(new.tenant), self._kept_ms)
        return bool(await self._functions.call("open_workflow", self._redis_keys(new), *args))

    async def drop(self, new: NewWorkflow) -> None:
        """Delete a workflow whose steps could not all be recorded."""
        await self._functions.call("drop_workflow", self._redis_keys(new), self._keys.kept_bytes(new.tenant))

    def _redis_keys(self, new: NewWorkflow) -> list[str]:
        record = self._keys.workflow(new.id)
        if new.idempotency_key is None:
            return [record]
        return [record, self._keys.workflow_idempotency(new.tenant, new.idempotency_key)]

    async def discard_step(self, job: Job) -> None:
        """Delete a step of such a workflow."""
        keys = self._keys.job(job.id)
        await self._functions.call("discard_waiting", [keys.record, keys.request, keys.log, keys.children])

    async def load(self, workflow_id: str) -> Workflow:
        """Read a workflow.

        Raises:
            WorkflowNotFound: there is none (any more), or its steps are not recorded yet.
        """
        fields = ["status", "tenant", "created", "steps"]
        found = await self._client.hmget(self._keys.workflow(workflow_id), fields)  # type: ignore[misc]
        status, tenant, created, steps = found
        if status != b"completed":
            raise WorkflowNotFound(f"There is no workflow {workflow_id}.")
        return Workflow(workflow_id, tenant.decode(), int(created), json.loads(steps))
