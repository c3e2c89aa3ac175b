"""What the API's handlers work with, put together once by app.py and found on the application's state."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from gateway.admission import Admission
from gateway.api.heavy_work import HeavyWork
from gateway.auth import Keyring
from gateway.dialects.recent_answers import RecentAnswers
from gateway.hub import Hub
from gateway.open_streams import OpenStreams
from gateway.presence import Presence
from gateway.scrape import Scrape
from gateway.shared_links import SharedLinks
from shared.catalogue import Catalogue
from shared.clock import Clock
from shared.conversations import Conversations
from shared.dead_letters import DeadLetters
from shared.errors import Draining
from shared.metrics import Metrics
from shared.prompts import Prompts
from shared.queue import Queue
from shared.results import Results
from shared.server_watch import ServerWatch
from shared.settings import Settings
from shared.store import Store
from shared.viewers import Viewers


@dataclass
class Services:
    """The parts of one gateway, and the tasks that run them. `draining` is set once, on the way out."""

    settings: Settings
    clock: Clock
    store: Store
    results: Results
    conversations: Conversations
    prompts: Prompts
    queue: Queue
    dead_letters: DeadLetters
    hub: Hub
    admission: Admission
    presence: Presence
    open_streams: OpenStreams
    viewers: Viewers
    keyring: Keyring
    links: SharedLinks
    catalogue: Catalogue
    watch: ServerWatch
    metrics: Metrics
    scrape: Scrape
    heavy: HeavyWork = field(default_factory=HeavyWork)
    answers: RecentAnswers = field(default_factory=RecentAnswers)
    leaving: bool = False
    """A signal has come: nothing new is to be sent here, though it is still served until `draining`."""
    draining: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def refuse_if_draining(self) -> None:
        """Raises:
        Draining: this process takes no new work.
        """
        if self.draining:
            raise Draining("This gateway is shutting down; try again, another one answers.")


def services_of(request: Request) -> Services:
    """The services of the application that this request came to."""
    return cast(Services, request.app.state.services)
