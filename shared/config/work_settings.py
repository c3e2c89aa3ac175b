"""The settings of the work on jobs: processes, lanes, attempts, draining and time-outs.

Pure. Not here: the bounds on waiting and stored jobs (bound_settings.py).
"""

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from shared.config.comma_lists import CommaSeparated
from shared.model.bounds import WORKER_SLOTS
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.lanes import Lane, parse_lanes
from shared.model.routes import OnStreamFailure


class WorkSettings(BaseModel):
    """The settings for running jobs. It is combined with `AccessSettings`: a lane that a key may use must exist."""

    gateways: int = Field(
        1, ge=1, le=64, description="gateway processes that `tailrace up` starts; they share the port"
    )
    workers: int = Field(1, ge=1, le=64, description="worker processes that `tailrace up` starts")
    worker_slots: int = Field(WORKER_SLOTS, ge=1, le=10_000, description="jobs that one worker process runs at once")
    lanes: CommaSeparated = Field(
        ("high:4", "default:2", "low:1"),
        description=(
            "`name:weight` or `name:weight:cap`, separated by commas: the lanes' shares of the slots, and how "
            "many slots of one worker process a lane may hold"
        ),
    )
    worker_lanes: CommaSeparated = Field(
        (),
        description=(
            "the lanes whose jobs a worker runs, separated by commas, as in `high,default`; unset: all of them"
        ),
    )
    kinds: CommaSeparated = Field(
        (), description="modules with kinds of jobs that are functions, separated by commas, as in `my_package.kinds`"
    )
    tasks_kind: str | None = Field(
        None,
        description=(
            "kind of the tasks that `POST /tasks` makes if the request does not name one; unset: the only kind of "
            "`TAILRACE_KINDS`, if there is one"
        ),
    )
    lease_s: float = Field(
        10.0,
        ge=0.5,
        le=300,
        description="a worker that does not renew its claims for this long loses its jobs to another",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description=(
            "failed attempts after which a job ends as failed; as many as its chain has links, if those are more"
        ),
    )
    max_crashes: int = Field(
        2,
        ge=1,
        le=1000,
        description="workers that a job may lose in a row without progress before it ends as `poison_job`",
    )
    on_stream_failure: OnStreamFailure = Field(
        OnStreamFailure.CONTINUE,
        description=(
            "what follows if a stream fails after its first token and neither request nor route decide it: "
            "continue, rollback or fail"
        ),
    )
    max_regenerated_tokens: int = Field(
        100_000, ge=0, description="tokens that a job's attempts may generate again before it ends as failed"
    )
    drain_delay_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description=(
            "how long a stopping gateway still accepts requests, while `/health/ready` returns 503 to its proxies"
        ),
    )
    drain_s: float = Field(10.0, ge=0, le=3600, description="how long a stopping process waits for what is running")

    timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="a job's time from submit to its end, unless the request has `timeout_s`"
    )
    max_timeout_s: float = Field(
        86_400.0, gt=0, le=LONGEST_TIMEOUT_S, description="the longest `timeout_s` a job may ask for"
    )
    first_token_timeout_s: float = Field(120.0, gt=0, description="how long a provider may take to its first token")
    gap_timeout_s: float = Field(60.0, gt=0, description="how long a provider may be silent between two tokens")
    retention_s: float = Field(86_400.0, gt=0, description="how long a job can be read after its end")
    unstored_retention_s: float = Field(
        600.0,
        gt=0,
        description=(
            "how long a job with `store: false` can be read after its end, by a reader that was cut off or while "
            "its tools run"
        ),
    )
    dead_letter_retention_s: float = Field(
        604_800.0,
        gt=0,
        description="how long a dead letter is stored; at least `retention_s`",
    )
    disconnect_grace_s: float = Field(
        5.0,
        ge=0,
        description=(
            "a job of `on_disconnect: cancel`, such as a chat completion's, ends this long after its last viewer left"
        ),
    )

    @field_validator("worker_lanes")
    @classmethod
    def _exist(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = [lane.name for lane in parse_lanes(info.data["lanes"])] if "lanes" in info.data else list(value)
        if missing := [name for name in value if name not in known]:
            raise ValueError(f"{missing[0]} is not one of TAILRACE_LANES: {', '.join(known)}")
        return value

    @property
    def served_lanes(self) -> tuple[Lane, ...]:
        """Return the lanes whose jobs a worker of these settings runs."""
        lanes = parse_lanes(self.lanes)
        return tuple(lane for lane in lanes if lane.name in self.worker_lanes) if self.worker_lanes else lanes

    @field_validator("lanes")
    @classmethod
    def _fit_together(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        lanes = parse_lanes(value)
        slots = info.data.get("worker_slots", max(lane.cap or 0 for lane in lanes))
        if any(lane.cap is not None and lane.cap > slots for lane in lanes):
            raise ValueError(f"a lane's cap must be at most TAILRACE_WORKER_SLOTS, which is {slots}")
        planned = {lane for key in info.data.get("api_keys", ()) for lane in key.lanes}
        if missing := planned - {lane.name for lane in lanes}:
            raise ValueError(
                f"a key in TAILRACE_API_KEYS may use {', '.join(sorted(missing))}, which must be one of TAILRACE_LANES"
            )
        return value
