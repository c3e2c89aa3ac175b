"""An OpenAI-compatible upstream that plays the request's script over HTTP.

The vocabulary is the scripted provider's (worker/upstream/providers/scripted.py) plus faults that only a wire has
(`WireScript`). In a test's own process: `async with running_upstream() as upstream`. As a process of its own:
`python -m tests.support.upstream --port 0` prints its base URL; `GET /observations?closed=1` waits until one
stream was closed by its client, `GET /open` counts the requests that are not over, `GET /meter` the tokens that were
generated, and those of them a second time. It speaks just enough HTTP/1.1 to stay out of a benchmark's way.
"""

from tests.support.upstream.manner import Manner
from tests.support.upstream.script import Answer, WireScript, ask, expected_text
from tests.support.upstream.seen import Seen
from tests.support.upstream.server import running_upstream, serve
from tests.support.upstream.state import TIMEOUT_S, Upstream

__all__ = [
    "TIMEOUT_S",
    "Answer",
    "Manner",
    "Seen",
    "Upstream",
    "WireScript",
    "ask",
    "expected_text",
    "running_upstream",
    "serve",
]
