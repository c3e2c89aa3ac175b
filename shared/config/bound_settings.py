"""The settings of bounds: the wait of a reader, the size of a request, the share of a tenant.

Pure. Not here: the defaults and their reasons (shared/model/bounds.py), and the shares of tenants
(shared/model/tenant_bounds.py).
"""

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from shared.config.comma_lists import CommaSeparated
from shared.model.bounds import (
    ADDRESS_CONNECTIONS,
    BODY_BYTES,
    BODY_RATE,
    CONNECTIONS,
    DEAD_LETTERS,
    DEPTH,
    KIB,
    LOG_BYTES,
    MIB,
    PUMP_BYTES,
    READER_BYTES,
    RESULT_BYTES,
)


class BoundSettings(BaseModel):
    """The bounds of streams, requests, jobs and tenants. It is combined with `WorkSettings`, which has the lanes."""

    heartbeat_s: float = Field(15.0, gt=0, le=60, description="a silent stream gets a comment line this often")
    headers_hold_s: float = Field(
        15.0,
        ge=0,
        description="how long an OpenAI stream waits for its first delta before its headers go out",
    )
    redis_patience_s: float = Field(
        30.0, ge=0, description="readers wait this long for a lost Redis, then they are disconnected"
    )
    send_timeout_s: float = Field(30.0, gt=0, description="a reader that reads nothing for this long is disconnected")
    tail_check_s: float = Field(15.0, gt=0, description="silent streams are compared with their logs this often")

    max_body_bytes: int = Field(BODY_BYTES, ge=KIB, description="the largest request body")
    min_body_rate: int = Field(
        BODY_RATE, ge=0, description="bytes per second at which a body must arrive after its first 10 s; 0: no bound"
    )
    max_connections_per_address: int = Field(
        ADDRESS_CONNECTIONS, ge=1, description="open connections of one client address at one gateway"
    )
    proxies: CommaSeparated = Field(
        ("127.0.0.1", "::1"), description="addresses of proxies, which have no such bound, separated by commas"
    )
    max_log_bytes: int = Field(
        LOG_BYTES,
        ge=KIB,
        description="bytes of the log of a job's execution; beyond it the job fails as `output_too_large`",
    )
    max_result_bytes: int = Field(
        RESULT_BYTES,
        ge=KIB,
        description="bytes of the result of a job that does not stream; beyond it the job fails as `output_too_large`",
    )
    max_depth: int = Field(DEPTH, ge=1, description="jobs that may wait in one lane; beyond it new ones get 429")
    max_waiting_per_tenant: int | None = Field(
        None,
        ge=1,
        description=(
            "jobs of one tenant that may wait, in all lanes; beyond it 429; unset: half of `max_depth`, with one "
            "tenant all of it"
        ),
    )
    max_running_per_tenant: int | None = Field(
        None,
        ge=1,
        description=(
            "jobs of one tenant that run at once, over all workers; more wait, and others overtake them; unset: "
            "four fifths of all workers' slots, with one tenant all of them"
        ),
    )
    max_dead_letters: int = Field(
        DEAD_LETTERS,
        ge=1,
        description="dead letters that are kept; beyond it the tenant with most loses its oldest",
    )
    max_dead_letters_per_tenant: int | None = Field(
        None,
        ge=1,
        description=(
            "dead letters of one tenant; beyond it the tenant's oldest becomes an ordinary failed job; unset: "
            "half of `max_dead_letters`"
        ),
    )
    max_streams_per_tenant: int | None = Field(
        None,
        ge=1,
        le=CONNECTIONS,
        description="streams that one tenant may have open at one gateway; beyond it 429; unset: half of its "
        f"{CONNECTIONS} connections, with one tenant all of them",
    )
    max_bytes_per_tenant: int | None = Field(
        None,
        ge=MIB,
        description=(
            "bytes that the jobs and conversations of one tenant may keep in Redis; new jobs get 429 when a tenth"
            " of them is left; unset: half of the server's memory, with one tenant no bound"
        ),
    )
    pump_bytes: int = Field(
        PUMP_BYTES,
        ge=4 * KIB,
        description="bytes of one job's frames that may wait for Redis before its provider must wait",
    )
    reader_bytes: int = Field(
        READER_BYTES,
        ge=4 * KIB,
        description="bytes of frames that may wait for one reader before it reads the log again",
    )

    @field_validator("max_waiting_per_tenant")
    @classmethod
    def _fits_into_the_lanes(cls, value: int | None, info: ValidationInfo) -> int | None:
        depth, lanes = info.data.get("max_depth"), info.data.get("lanes")
        if value is not None and depth is not None and lanes is not None and value > depth * len(lanes):
            raise ValueError(
                f"it must be at most TAILRACE_MAX_DEPTH for each lane, which is {depth * len(lanes)} in all"
            )
        return value

    @field_validator("max_dead_letters_per_tenant")
    @classmethod
    def _are_some_of_all(cls, value: int | None, info: ValidationInfo) -> int | None:
        total = info.data.get("max_dead_letters")
        if value is not None and total is not None and value > total:
            raise ValueError(f"it must be at most TAILRACE_MAX_DEAD_LETTERS, which is {total}")
        return value
