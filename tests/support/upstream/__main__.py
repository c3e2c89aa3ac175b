"""Serve the scripted upstream as a process of its own; print its base URL."""

import argparse

import uvloop

from shared.model.routes import Continuation
from tests.support.upstream.manner import Manner
from tests.support.upstream.server import serve


def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted, OpenAI-compatible upstream on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--key", help="the only API key that is let in; without: each is")
    parser.add_argument("--continuation", type=Continuation, default="none", help="how it is asked to go on")
    parser.add_argument("--for", type=float, default=600, dest="seconds", help="it ends itself after so long")
    options = parser.parse_args()
    manner = Manner(continuation=options.continuation)
    uvloop.run(serve(manner=manner, port=options.port, key=options.key, seconds=options.seconds))


if __name__ == "__main__":
    _main()
