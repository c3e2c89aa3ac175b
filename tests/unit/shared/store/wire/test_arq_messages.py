"""Test the messages of the queue: each job has one valid message, and any other is refused."""

from typing import Any

import pytest

from shared.model.jobs import created_ms, new_job_id
from shared.store.wire.arq_messages import deserialize, message_of, read_message, serialize

JOB = new_job_id(1_700_000_000_000, 7)
OTHER = new_job_id(1_700_000_000_001, 7)


def test_a_message_is_read_as_it_was_written() -> None:
    assert read_message(serialize(message_of(JOB))) == message_of(JOB)


def test_a_message_holds_the_jobs_id_and_its_time() -> None:
    assert message_of(JOB) == {"t": None, "f": "run_job", "a": [JOB], "k": {}, "et": created_ms(JOB)}


def test_a_message_is_json_and_never_pickle() -> None:
    assert serialize({"a": [1, None]}) == b'{"a":[1,null]}'
    assert deserialize(b'{"a":[1,null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    "changes",
    [{"a": []}, {"a": [JOB, JOB]}, {"a": [OTHER]}, {"a": 7}, {"f": "os.system"}, {"k": {"x": 1}}, {"et": 0}, {"t": 1}],
    ids=str,
)
def test_a_changed_message_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_message(serialize(message_of(JOB) | changes))


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"{}", b"null", b'"text"'])
def test_another_text_is_refused(raw: bytes) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        read_message(raw)
