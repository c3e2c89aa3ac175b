"""Heads of requests for tests of gateway/preparation: Alice's, with the limits of the default settings."""

from typing import Any, Final

from gateway.model.auth import Caller
from gateway.preparation.request_head import RequestHead
from gateway.specs.kinds import ADMITTED_KINDS
from gateway.specs.limits import Limits
from gateway.specs.request_options import RequestOptions
from gateway.specs.spec_maker import SpecMaker

JOB: Final = "job_" + "0" * 26
LIMITS: Final = Limits(
    timeout_s=600.0,
    max_timeout_s=3600.0,
    retention_s=60.0,
    unstored_s=20.0,
    listed_s=60.0,
    max_depth=10,
    grace_s=5.0,
    models=(),
    lanes=("default", "low"),
)


def head(**options: Any) -> RequestHead:
    """Build a head with these options; its job has the id `JOB`."""
    return RequestHead(
        SpecMaker(LIMITS, "gateway-1", ADMITTED_KINDS), Caller("alice"), "key", RequestOptions(**options), JOB
    )
