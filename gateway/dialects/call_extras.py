"""Further fields of tool calls: the state that some upstreams put into a call and demand back with it.

Gemini's `extra_content` is such a field. An upstream's own fields are in the log of the job that made the call; many
clients drop them from the items that they send back. Pure. Not here: how a log is read, and whose it is.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.dialects.call_fragments import CallFragment, add_extra, call_fragments
from gateway.dialects.response_item_ids import Item, job_of
from gateway.dialects.response_items import CALL_FIELDS
from shared.events import START, Event, EventType, decode_frame, parse_id

Extras = dict[str, Any]

_CALLS: Final = ("function_call", "custom_tool_call")
_ANSWER: Final = (*_CALLS, "reasoning", "item_reference")
# Fields that are taken from a caller's item if no log has them. Others may be a client's own, and strict upstreams
# refuse unknown ones.
_CARRIED = ("extra_content", "provider_specific_fields", "signature", "thought_signature", "thoughtSignature")
_ROLLBACK = b"event: %s\n" % EventType.ROLLBACK.encode()


def calling_jobs(items: Sequence[Item], most: int) -> list[str]:
    """Find the jobs that have made the calls among these items: the `most` latest."""
    jobs = dict.fromkeys(job for _, job in reversed(list(_calls(items))) if job)
    return list(jobs)[:most]


def with_extras(items: Sequence[Item], logged: Mapping[str, Mapping[str, Extras]]) -> list[Item]:
    """Give each call its further fields: those `logged` by job and call id, or else those that its item carries."""
    restored = list(items)
    for number, job in _calls(items):
        restored[number] = _restored(items[number], logged.get(job, {}))
    return restored


def _restored(item: Item, logged: Mapping[str, Extras]) -> Item:
    own = {name: value for name, value in item.items() if name in CALL_FIELDS}
    carried = {name: item[name] for name in _CARRIED if item.get(name) is not None}
    call_id = item.get("call_id")
    extras = logged.get(call_id, carried) if isinstance(call_id, str) else carried
    return own | {name: value for name, value in extras.items() if name not in CALL_FIELDS}


def _calls(items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """Find the number of each call and its job: by its own id, or by that of an item before it in the same answer."""
    job = ""
    for number, item in enumerate(items):
        kind = item.get("type") or "message"
        answers = kind in _ANSWER or (kind == "message" and item.get("role") == "assistant")
        job = (job_of(item) or job) if answers else ""
        if kind in _CALLS:
            yield number, job


class LoggedExtras:
    """The further fields of an answer's calls, from the events of its job."""

    def __init__(self) -> None:
        self._deltas: list[Event] = []

    def accept(self, frame: bytes) -> None:
        """Take the job's next frame. Few frames hold calls, so that the others are not decoded."""
        if frame.startswith(_ROLLBACK):
            to = parse_id(decode_frame(frame).json()["to"])
            self._deltas = [delta for delta in self._deltas if (delta.id or START) <= to]
        elif b'"tool_calls"' in frame:
            self._deltas.append(decode_frame(frame))

    def by_call(self) -> dict[str, Extras]:
        """Collect the fields by call id; calls without any are left out."""
        ids: dict[int, str] = {}
        extras: dict[int, Extras] = defaultdict(dict)
        for fragment in self._fragments():
            ids.setdefault(fragment.number, fragment.id)
            add_extra(extras[fragment.number], fragment)
        return {ids[number]: found for number, found in extras.items() if found and ids[number]}

    def _fragments(self) -> Iterator[CallFragment]:
        """Read the calls of the first choice: a response is one answer."""
        for delta in self._deltas:
            data = delta.json()
            if not data.get("index"):
                yield from call_fragments(data)
