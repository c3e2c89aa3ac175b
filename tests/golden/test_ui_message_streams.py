"""Compare recorded jobs with the AI SDK's UI message streams; `ai` itself reads them in tests/clients/test_ai_sdk.py.

`chat/<name>.events` is a job's log as Redis holds it, `ui_message/<name>.sse` the stream for a page.
`python -m tests.golden.test_ui_message_streams` records them anew: check the difference before you commit it.
"""

from pathlib import Path

import pytest

from gateway.dialects.ai_sdk.stream import UiMessageStream
from tests.golden.test_chat_streams import OPTIONS, events

RECORDINGS = Path(__file__).parent / "ui_message"
MESSAGE = "msg_01hf7yat000000000000000005"


def streamed(name: str) -> bytes:
    """Build the stream of a recorded job, for a page that got its headers at once."""
    stream = UiMessageStream(MESSAGE)
    frames = b"".join(map(stream.translate, events(name)))
    return frames if stream.shown else frames + stream.failure_frame()


def test_every_recording_is_known() -> None:
    assert {path.stem for path in RECORDINGS.iterdir()} == OPTIONS.keys()


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_recorded_job_gives_the_recorded_stream(name: str) -> None:
    assert streamed(name) == (RECORDINGS / f"{name}.sse").read_bytes()


if __name__ == "__main__":
    RECORDINGS.mkdir(exist_ok=True)
    for name in OPTIONS:
        (RECORDINGS / f"{name}.sse").write_bytes(streamed(name))
