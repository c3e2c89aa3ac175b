"""Define everything of a request but its body, as far as the spec of its job depends on it.

Pure. Not here: the bodies of the dialects (the modules beside this one).
"""

from dataclasses import dataclass

from gateway.model.auth import Caller
from gateway.specs.request_options import RequestOptions
from gateway.specs.spec_maker import SpecMaker


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Name the caller of a request, its Idempotency-Key and its options; and the id of the job that is made of it."""

    specs: SpecMaker
    caller: Caller
    key: str | None
    options: RequestOptions
    job_id: str
