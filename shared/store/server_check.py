"""Whether a server is fit for Tailrace: its version, kind, role and policy, and its user's rights.

Not here: how often it is asked (server_watch.py).
"""

from dataclasses import dataclass
from typing import Any, cast

from shared.model.errors import StartupError
from shared.store.client import Client, Functions, require_redis
from shared.store.keys import Keys
from shared.store.wire.rights import needed_commands, sentence_of_missing

_OLDEST = (7, 2)
_SAMPLE = 100


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server: it has another `run_id` after each start. `up_s` counts whole seconds."""

    run_id: str
    up_s: float


async def server_of(client: Client) -> RedisServer:
    """The server that this client speaks to. Raises one of `REDIS_FAULTS`.

    If its clock was set back since its start, it has been up for a negative time.
    """
    info = cast(dict[str, Any], await client.info("server"))
    return RedisServer(str(info["run_id"]), max(float(info["uptime_in_seconds"]), 0.0))


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a server is not fit. One that `serves` all the same may lose jobs."""

    sentence: str
    serves: bool


async def find_unfitness(client: Client, keys: Keys) -> Unfit | None:
    """Compare a server with the needs of Tailrace; None if it is fit.

    Raises:
        RedisError, OSError: one of `REDIS_FAULTS`.
    """
    info = cast(dict[str, Any], await client.info())
    return _unfit_by(info) or await _find_missing_rights(client, keys)


async def check_server(client: Client, keys: Keys) -> None:
    """Refuse a server that is not fit, or refuses a command that will be needed.

    Raises:
        StartupError: it is too old, a cluster or a replica, evicts, or its user lacks a right; the sentence names the
            change that helps.
        RedisUnavailable: it does not answer.
    """
    with require_redis():
        unfit = await find_unfitness(client, keys)
    if unfit is not None:
        raise StartupError(unfit.sentence)


async def check_arq_keys(queue_client: Client, keys: Keys) -> None:
    """Refuse to name the keys of arq otherwise than the other processes at this prefix do.

    Raises:
        StartupError: they would not find each other's jobs.
        RedisUnavailable: the server does not answer.
    """
    with require_redis():
        if not keys.arq_prefixed:
            others_differ = bool(await queue_client.exists(keys.arq_is_prefixed))
        elif not (others_differ := await _has_jobs_without_messages(queue_client, keys)):
            await queue_client.set(keys.arq_is_prefixed, "1")
    if others_differ:
        raise StartupError(
            f"TAILRACE_ARQ_PREFIXED must be {str(not keys.arq_prefixed).lower()}, as it is for others at the prefix "
            f"{keys.prefix}; take another TAILRACE_KEY_PREFIX to change it."
        )


async def _has_jobs_without_messages(queue_client: Client, keys: Keys) -> bool:
    jobs = await queue_client.zrange(keys.active, 0, _SAMPLE - 1)
    return bool(jobs) and not await queue_client.exists(*(keys.arq.job + job.decode() for job in jobs))


def _unfit_by(info: dict[str, Any]) -> Unfit | None:
    version = str(info["redis_version"])
    major, minor, *_ = (int(part) for part in version.split("."))
    if (major, minor) < _OLDEST:
        needed = "Tailrace needs Redis 7.2 or Valkey 7.2, or newer"
        return Unfit(f"This Redis is version {version}; {needed}.", serves=False)
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled"):
        return Unfit("This Redis is a cluster, which is not supported; name a single primary.", serves=False)
    if info.get("role", "master") != "master":
        return Unfit("This Redis is a replica, which can't be written to; name its primary.", serves=False)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        evicts = f"This Redis has maxmemory-policy {policy}, which would evict jobs; set it to noeviction."
        return Unfit(evicts, serves=True)
    return None


async def _find_missing_rights(client: Client, keys: Keys) -> Unfit | None:
    commands = needed_commands(keys)
    words = [word for command in commands for word in (str(len(command)), *command)]
    places = await Functions(client, keys).refused(words)
    if not places:
        return None
    return Unfit(sentence_of_missing([commands[place - 1] for place in places], keys), serves=False)
