"""Every Redis key, channel and time to live of Tailrace, in one place.

The keys of one job carry its hash tag, so that a job lives in one cluster slot; the queue side lives on one primary.
Pure.
"""

from dataclasses import dataclass
from typing import Final

from shared.model.parents import GATE_PREFIX

# arq builds these names itself (arq.constants); they are written here because the atomic steps touch them too.
ARQ: Final = "arq:"
ARQ_JOB = ARQ + "job:"
ARQ_IN_PROGRESS = ARQ + "in-progress:"
ARQ_RETRY = ARQ + "retry:"
ARQ_ABORT = ARQ + "abort"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one job."""

    record: str
    request: str
    log: str
    result: str
    channel: str
    viewers: str
    """The gateways that have readers of it, by the time when they expire."""
    readers: str
    """How many readers each of them has."""
    children: str
    """The jobs that come after it and wait for its end."""


@dataclass(frozen=True, slots=True)
class PermitKeys:
    """The keys of one provider's concurrency permits."""

    holders: str
    waiters: str
    interest: str


@dataclass(frozen=True, slots=True)
class ArqKeys:
    """The keys of arq; a job's id follows, but for `abort`."""

    job: str = ARQ_JOB
    in_progress: str = ARQ_IN_PROGRESS
    retry: str = ARQ_RETRY
    abort: str = ARQ_ABORT


@dataclass(frozen=True, slots=True)
class Keys:
    """All names under one prefix; a test has a prefix of its own.

    The keys of arq have the prefix only with `arq_prefixed`: earlier versions read them without it.
    """

    prefix: str = "tailrace"
    arq_prefixed: bool = False

    @property
    def arq_base(self) -> str:
        """The beginning of the keys of arq, in place of `ARQ`."""
        return f"{self.prefix}:{ARQ}" if self.arq_prefixed else ARQ

    @property
    def arq(self) -> ArqKeys:
        """The keys of arq."""
        names = (ARQ_JOB, ARQ_IN_PROGRESS, ARQ_RETRY, ARQ_ABORT)
        return ArqKeys(*(self.arq_base + name.removeprefix(ARQ) for name in names))

    @property
    def arq_is_prefixed(self) -> str:
        """There if the processes at this prefix have the keys of arq under it, too."""
        return f"{self.prefix}:arq-is-prefixed"

    @property
    def jobs(self) -> str:
        """The beginning of every key of a job; its id in braces and a colon follow."""
        return f"{self.prefix}:"

    def job(self, job_id: str) -> JobKeys:
        """The keys of `job_id`."""
        base = f"{self.jobs}{{{job_id}}}:"
        names = ("record", "request", "log", "result", "live", "viewers", "readers", "children")
        return JobKeys(*(base + name for name in names))

    def workflow(self, workflow_id: str) -> str:
        """The record of a workflow."""
        return f"{self.prefix}:{{{workflow_id}}}:workflow"

    def workflow_idempotency(self, tenant: str, key: str) -> str:
        """The workflow that a tenant's Idempotency-Key has made."""
        return f"{self.prefix}:workflow-idem:{tenant}:{key}"

    def parent(self, parent_id: str) -> tuple[str, str]:
        """The record of a job or a workflow, and the list of its children."""
        job = self.job(parent_id)
        return self.workflow(parent_id) if parent_id.startswith(GATE_PREFIX) else job.record, job.children

    def channel(self, job_id: str) -> str:
        """The job's live channel."""
        return f"{self.prefix}:{{{job_id}}}:live"

    def lane(self, name: str) -> str:
        """The arq queue of a lane."""
        return f"{self.prefix}:lane:{name}"

    def idempotency(self, tenant: str, key: str) -> str:
        """The job and the fingerprint of an Idempotency-Key."""
        return f"{self.prefix}:idem:{tenant}:{key}"

    def deleted(self, job_id: str) -> str:
        """There once a job's owner has deleted it, for as long as an Idempotency-Key may lead to it."""
        return f"{self.prefix}:deleted:{job_id}"

    def tenant_jobs(self, tenant: str) -> str:
        """A tenant's jobs; their ids sort by creation."""
        return f"{self.ledgers}{tenant}:jobs"

    @property
    def ledgers(self) -> str:
        """The beginning of every key of a tenant; its name and a colon follow. The functions name the ledger's."""
        return f"{self.prefix}:tenant:"

    def tenant_terms(self, tenant: str) -> str:
        """The bounds of a tenant's jobs."""
        return f"{self.ledgers}{tenant}:terms"

    @property
    def reservations(self) -> str:
        """The tenant, the lane and the wake-up list of each job that has not ended."""
        return f"{self.prefix}:reservations"

    @property
    def slots(self) -> str:
        """Each worker and the number of its slots, by the time when it expires."""
        return f"{self.prefix}:slots"

    def kept_bytes(self, tenant: str) -> str:
        """The beginning of the names of a tenant's bytes; on the jobs' side. shared/store/functions name the rest."""
        return f"{self.prefix}:{{{tenant}:bytes}}"

    def conversation(self, tenant: str, chat_id: str) -> str:
        """Which job answers in a tenant's conversation; on the jobs' side."""
        return f"{self.prefix}:{{{tenant}:chat:{chat_id}}}:conversation"

    def prompt(self, tenant: str, fingerprint: str) -> str:
        """The latest jobs of a tenant that have this prompt; on the jobs' side."""
        return f"{self.prefix}:{{{tenant}:prompt:{fingerprint}}}:jobs"

    def permits(self, provider: str) -> PermitKeys:
        """The permit holders and the waiters of a provider with a limit; on the jobs' server."""
        base = f"{self.prefix}:{{provider:{provider}}}:"
        return PermitKeys(base + "holders", base + "waiters", base + "interest")

    @property
    def breaker_states(self) -> str:
        """The breaker states of all providers' models, on the jobs' server. The name has their form's version."""
        return f"{self.prefix}:circuits:2"

    @property
    def dead_letters(self) -> str:
        """All dead letters, by the time of their end; on the jobs' side."""
        return f"{self.prefix}:{{dead-letters}}:all"

    @property
    def dead_letter_owners(self) -> str:
        """The tenant of each dead letter."""
        return f"{self.prefix}:{{dead-letters}}:owners"

    @property
    def dead_letter_tenants(self) -> str:
        """The tenants that have dead letters, by their number."""
        return f"{self.prefix}:{{dead-letters}}:tenants"

    @property
    def dead_letters_of(self) -> str:
        """The beginning of the names of the tenants' own lists; the tenant follows."""
        return f"{self.prefix}:{{dead-letters}}:of:"

    @property
    def open_dead_letters(self) -> str:
        """The dead letters that were not requeued."""
        return f"{self.prefix}:{{dead-letters}}:open"

    @property
    def control(self) -> str:
        """The channel of the messages to all workers (shared/store/wire/control.py)."""
        return f"{self.prefix}:control"

    def wake_ups(self, lane: str) -> str:
        """The wake-up list of a lane: each entry, which has no content, wakes one worker that serves the lane."""
        return f"{self.prefix}:bell:{lane}"

    @property
    def active(self) -> str:
        """Jobs that have not ended, by the time when the reaper should check them."""
        return f"{self.prefix}:active"

    def worker(self, host: str) -> str:
        """There as long as a worker on this host is at work; health checks read it."""
        return f"{self.prefix}:worker:{host}"

    @property
    def processes(self) -> str:
        """The processes that publish their metrics, by the time when they expire."""
        return f"{self.prefix}:processes"

    def metrics(self, process: str) -> str:
        """The last published metrics of a process."""
        return f"{self.prefix}:metrics:{process}"

    @property
    def models(self) -> str:
        """The catalog of models that the workers publish."""
        return f"{self.prefix}:models"

    @property
    def reconciled(self) -> str:
        """The queue's server with which all jobs were last compared; on the jobs' side."""
        return f"{self.prefix}:walked:2"

    @property
    def reconciling(self) -> str:
        """There while a worker compares them."""
        return f"{self.prefix}:walking"

    @property
    def webhook_secrets(self) -> str:
        """The signing secret of each tenant's webhooks; on the queue's side."""
        return f"{self.prefix}:webhooks:secrets"

    @property
    def webhooks_due(self) -> str:
        """The open deliveries of webhooks, by the time of their next attempt; on the queue's side."""
        return f"{self.prefix}:webhooks:due"

    def webhook_delivery(self, delivery_id: str) -> str:
        """A delivery of a webhook."""
        return f"{self.prefix}:webhooks:delivery:{delivery_id}"

    def webhook_claim(self, delivery_id: str) -> str:
        """There while a worker makes an attempt at the delivery."""
        return f"{self.prefix}:webhooks:claim:{delivery_id}"

    @property
    def secret(self) -> str:
        """The secret that signs links, where none is configured."""
        return f"{self.prefix}:secret"

    @property
    def link_secrets(self) -> str:
        """Other secrets by which links are signed that are still good."""
        return f"{self.prefix}:secrets"

    @property
    def clock(self) -> str:
        """The correction of a server's clock, and its last answer; on each server."""
        return f"{self.prefix}:clock"

    @property
    def marker(self) -> str:
        """The mark of a server, on each side: it is lost with everything else."""
        return f"{self.prefix}:marker"
