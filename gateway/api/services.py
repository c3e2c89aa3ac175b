"""Define the services of the API's handlers: gateway/app.py builds them once and puts them on the application's
state."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from gateway.admission.admission import Admission
from gateway.admission.shared_links import SharedLinks
from gateway.admission.workflow_admission import WorkflowAdmission
from gateway.dialects.responses.recent_answers import RecentAnswers
from gateway.http.heavy_work import HeavyWork
from gateway.http.scrape import Scrape
from gateway.model.auth import Keyring
from gateway.specs.kinds import AdmittedKinds
from gateway.streams.hub import Hub
from gateway.streams.open_streams import OpenStreams
from gateway.streams.viewer_heartbeat import ViewerHeartbeat
from shared.config.settings import Settings
from shared.model.errors import Draining
from shared.model.metrics import Metrics
from shared.process.clock import Clock
from shared.store.catalog import ModelCatalog
from shared.store.conversations import Conversations
from shared.store.dead_letters import DeadLetters
from shared.store.jobs import JobRecords
from shared.store.prompts import Prompts
from shared.store.queue import Queue
from shared.store.queue_admission import QueueAdmission
from shared.store.results import Results
from shared.store.server_watch import ServerWatch
from shared.store.tenant_lists import TenantLists
from shared.store.viewers import Viewers
from shared.store.webhook_secrets import WebhookSecrets
from shared.store.workflows import Workflows


@dataclass
class Services:
    """Hold the parts of one gateway, and the tasks that run them. `draining` is set once, at shutdown."""

    settings: Settings
    clock: Clock
    store: JobRecords
    results: Results
    conversations: Conversations
    prompts: Prompts
    queue: Queue
    queue_admission: QueueAdmission
    tenant_lists: TenantLists
    dead_letters: DeadLetters
    hub: Hub
    kinds: AdmittedKinds
    admission: Admission
    viewer_heartbeat: ViewerHeartbeat
    open_streams: OpenStreams
    viewers: Viewers
    keyring: Keyring
    links: SharedLinks
    catalog: ModelCatalog
    watch: ServerWatch
    metrics: Metrics
    scrape: Scrape
    heavy: HeavyWork
    webhook_secrets: WebhookSecrets
    workflows: Workflows
    workflow_admission: WorkflowAdmission
    answers: RecentAnswers = field(default_factory=RecentAnswers)
    tasks_kind: str | None = None
    """The kind of tasks whose request names none."""
    leaving: bool = False
    """A signal has come: proxies should send nothing new here, although requests are served until `draining`."""
    draining: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def refuse_if_draining(self) -> None:
        """Refuse new work while this process drains.

        Raises:
            Draining: this process takes no new work.
        """
        if self.draining:
            raise Draining("This gateway is shutting down; try again.")


def services_of(request: Request) -> Services:
    """Return the services of the application that received this request."""
    return cast(Services, request.app.state.services)
