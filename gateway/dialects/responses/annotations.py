"""Read the annotations of a delta as Responses have them: chat nests a citation's fields, Responses do not. Pure.

Not here: which part of an output they belong to (writer.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any

_URL = "url_citation"


def annotations_of(delta: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Read the citations of a delta. Annotations that a Responses client does not know are left out.

    Clients rely on each field: a citation without a title or a position gets an empty title, or position 0.
    """
    given = delta.get("annotations")
    for annotation in given if isinstance(given, list) else ():
        match annotation:
            case {"type": "url_citation", "url_citation": {"url": str()} as fields} | (
                {"type": "url_citation", "url": str()} as fields
            ):
                yield _citation(fields)


def _citation(fields: Mapping[str, Any]) -> dict[str, Any]:
    title = fields.get("title")
    return {
        "type": _URL,
        "start_index": _position(fields.get("start_index")),
        "end_index": _position(fields.get("end_index")),
        "url": fields["url"],
        "title": title if isinstance(title, str) else "",
    }


def _position(value: object) -> int:
    return value if isinstance(value, int) else 0
