"""Test a job's vectors as OpenAI's list, and its end."""

import json
import struct

import pytest

from gateway.dialects.embeddings import EmbeddingList, EmbeddingsEnd, Encoding, parse_encoding
from shared.model.errors import InvalidRequest
from shared.model.events import Event, EventType
from shared.model.jobs import Embedded

KEPT = Embedded(model="m", done=3, total=4, dimensions=2, prompt_tokens=9, source="provider", sha256="")
VECTORS = struct.pack("<6f", 1.0, -0.5, 0.1, 2.0, 3.0, 4.0)


def written(pages: list[bytes], encoding: Encoding, embedded: Embedded | None = KEPT) -> dict[str, object]:
    listed = EmbeddingList("m", embedded, encoding, status="running")
    whole: dict[str, object] = json.loads(listed.opening + b"".join(map(listed.items, pages)) + listed.closing)
    return whole


@pytest.mark.parametrize("cut", [0, 8, 16, 24])
def test_the_list_is_the_same_wherever_the_pages_end(cut: int) -> None:
    whole = written([VECTORS[:cut], VECTORS[cut:]], Encoding.FLOAT)

    numbers = struct.unpack("<6f", VECTORS)
    assert whole == {
        "object": "list",
        "model": "m",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
        "status": "running",
        "data": [{"object": "embedding", "index": i, "embedding": list(numbers[2 * i : 2 * i + 2])} for i in range(3)],
    }


def test_a_vector_in_base64_consists_of_its_bytes() -> None:
    data = written([VECTORS], Encoding.BASE64)["data"]

    assert data == [
        {"object": "embedding", "index": 0, "embedding": "AACAPwAAAL8="},
        {"object": "embedding", "index": 1, "embedding": "zczMPQAAAEA="},
        {"object": "embedding", "index": 2, "embedding": "AABAQAAAgEA="},
    ]


def test_the_list_is_empty_if_no_vectors_are_kept() -> None:
    whole = written([], Encoding.FLOAT, None)

    assert (whole["data"], whole["usage"]) == ([], {"prompt_tokens": 0, "total_tokens": 0})


def test_the_default_encoding_is_numbers() -> None:
    assert [parse_encoding(value) for value in (None, "float", "base64")] == ["float", "float", "base64"]


@pytest.mark.parametrize("value", ["", "hex", 7, ["float"]])
def test_an_encoding_that_there_is_not_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="encoding_format must be one of: float, base64") as caught:
        parse_encoding(value)
    assert caught.value.param == "encoding_format"


def end_after(*types: EventType) -> EmbeddingsEnd:
    end = EmbeddingsEnd()
    error = {"code": "cancelled", "message": "So.", "retryable": False}
    for event in types:
        end.accept(Event(event, None, json.dumps({"error": error}).encode()))
    return end


def test_progress_does_not_end_a_job() -> None:
    end = end_after(EventType.QUEUED, EventType.STARTED, EventType.PROGRESS)

    assert (end.ended, end.failure) == (False, None)


def test_a_completed_job_has_ended_well() -> None:
    end = end_after(EventType.PROGRESS, EventType.COMPLETED)

    assert (end.ended, end.failure) == (True, None)
    with pytest.raises(NotImplementedError):
        end.body()


@pytest.mark.parametrize("event", [EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED])
def test_an_end_without_success_has_its_cause(event: EventType) -> None:
    end = end_after(event)

    assert end.ended and end.failure is not None
    assert (end.failure.code, end.failure.message) == ("cancelled", "So.")
