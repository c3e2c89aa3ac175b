"""Read the stored request of a job. Pure. Not here: where it is stored (shared/store/jobs.py)."""

import json
from typing import Any

from shared.model.errors import BrokenJob
from shared.model.jobs import KEPT


def parse_request(raw: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse a stored request into the provider's body and the dialect's own fields.

    Raises:
        BrokenJob: it is gone, or not a JSON object.
    """
    try:
        request = json.loads(raw or b"")
    except ValueError as error:
        raise BrokenJob("The job's request can't be read.") from error
    if not isinstance(request, dict):
        raise BrokenJob("The job's request is not an object.")
    kept = request.pop(KEPT, {})
    return request, kept
