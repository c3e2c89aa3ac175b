"""Read and write ids of Responses' output items: each names the job of the answer that has the item. Pure."""

import re
from collections.abc import Mapping
from typing import Any

Item = dict[str, Any]

_ITEM_ID = re.compile(r"(?:msg|rs|fc|ctc)_([0-9a-z]{26})_\d+")


def job_of(item: Mapping[str, Any]) -> str:
    """Read the job from an item's id; empty if the id is not one of ours."""
    item_id = item.get("id")
    match = _ITEM_ID.fullmatch(item_id) if isinstance(item_id, str) else None
    return "job_" + match[1] if match else ""
