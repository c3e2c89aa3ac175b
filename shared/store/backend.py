"""Open the connections of one process to both servers, check the servers, and build the stores on them.

Not here: the parts that only a gateway or only a worker has (gateway/app.py, worker/app.py).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.model.metrics import Metrics
from shared.store.catalog import ModelCatalog
from shared.store.checkpoints import Checkpoints
from shared.store.children import Children
from shared.store.client import Client, open_client, warm
from shared.store.dead_letters import DeadLetters
from shared.store.executions import Executions
from shared.store.fleet_metrics import Fleet
from shared.store.jobs import JobRecords
from shared.store.keys import Keys
from shared.store.queue import Queue
from shared.store.queue_admission import QueueAdmission
from shared.store.replay_log import ReplayLog
from shared.store.results import Results
from shared.store.server_check import check_arq_keys, check_server
from shared.store.tenant_lists import TenantLists
from shared.store.waiting_jobs import WaitingJobs

Side = Literal["queue", "jobs"]
"""One of the two servers; both may have the same address."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The connections of one process: a pool to each server, and one for the live feed, which blocks."""

    queue: Client
    jobs: Client
    feed: Client


@dataclass(frozen=True, slots=True)
class Backend:
    """The connections of one process, and the stores that gateways and workers share."""

    clients: Clients
    keys: Keys
    store: JobRecords
    executions: Executions
    queue: Queue
    queue_admission: QueueAdmission
    tenant_lists: TenantLists
    replay_log: ReplayLog
    results: Results
    checkpoints: Checkpoints
    waiting: WaitingJobs
    dead_letters: DeadLetters
    catalog: ModelCatalog
    fleet: Fleet

    @property
    def servers(self) -> dict[str, Client]:
        """Return one client for each server, by its side."""
        return {"queue": self.clients.queue, "jobs": self.clients.jobs}


@asynccontextmanager
async def open_backend(settings: Settings, metrics: Metrics, part: str) -> AsyncIterator[Backend]:
    """Connect a `part` (gateway or worker) to both servers, and check them; the connections are closed at the end.

    Raises:
        StartupError: a server is unfit, or has no address.
        RedisUnavailable: a server does not answer.
    """
    if settings.redis_url is None:
        raise StartupError(f"TAILRACE_REDIS_URL is not set; `tailrace up` brings its own, a {part} does not.")
    async with AsyncExitStack() as stack:
        clients = await _open_clients(settings, metrics, stack)
        backend = _build(settings, metrics, clients)
        for client in backend.servers.values():
            await check_server(client, backend.keys)
            await warm(client)
        await check_arq_keys(clients.queue, backend.keys)
        yield backend


@asynccontextmanager
async def open_connection(settings: Settings, side: Side) -> AsyncIterator[Client]:
    """Open a single connection, for calls that block or that other calls must not delay.

    Raises:
        StartupError, RedisUnavailable: as `open_backend`.
    """
    async with aclosing(open_client(_address(settings, side), connections=1)) as client:
        await warm(client)
        yield client


async def _open_clients(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Clients:
    latency = metrics.command
    queue = open_client(_address(settings, "queue"), latency=latency.of("queue"))
    stack.push_async_callback(queue.aclose)
    jobs = open_client(_address(settings, "jobs"), latency=latency.of("jobs"))
    stack.push_async_callback(jobs.aclose)
    feed = open_client(_address(settings, "jobs"), connections=1, command_timeout_s=None)
    stack.push_async_callback(feed.aclose)
    return Clients(queue, jobs, feed)


def _address(settings: Settings, side: Side) -> str:
    url = settings.stream_redis_url if side == "jobs" and settings.stream_redis_url else settings.redis_url
    return "" if url is None else url.get_secret_value()


def _build(settings: Settings, metrics: Metrics, clients: Clients) -> Backend:
    keys = Keys(settings.key_prefix, settings.arq_prefixed)
    store = JobRecords(clients.jobs, keys, retention_s=settings.retention_s, metrics=metrics)
    queue = Queue(clients.queue, keys, metrics, has_jobs=settings.stream_redis_url is None)
    children = Children(clients.jobs, keys, retention_s=settings.retention_s, metrics=metrics)
    return Backend(
        clients=clients,
        keys=keys,
        store=store,
        executions=Executions(
            clients.jobs,
            keys,
            retention_s=settings.retention_s,
            failed_retention_s=settings.dead_letter_retention_s,
            metrics=metrics,
        ),
        queue=queue,
        queue_admission=QueueAdmission(clients.queue, keys, metrics),
        tenant_lists=TenantLists(clients.queue, keys),
        replay_log=ReplayLog(clients.jobs, keys),
        results=Results(clients.jobs, keys),
        checkpoints=Checkpoints(clients.jobs, keys),
        waiting=WaitingJobs(clients.queue, keys, children, store, queue),
        dead_letters=DeadLetters(
            clients.jobs,
            keys,
            retention_s=settings.retention_s,
            dead_letter_retention_s=settings.dead_letter_retention_s,
            most=settings.max_dead_letters,
            most_of_tenant=settings.tenant_bounds.dead_letters,
            metrics=metrics,
        ),
        catalog=ModelCatalog(clients.queue, keys),
        fleet=Fleet(clients.queue, keys),
    )
