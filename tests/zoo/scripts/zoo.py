"""Run a client's functions as they are asked for, one line of JSON each way. Its own package is all that it needs.

A line in is `{"function": name, "model": name}`; a line out is the function's answer. The client's own prints go to
stderr. A function that fails ends the process with a traceback. Each script calls `serve` with its functions.
"""

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable
from typing import Any

BASE_URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
QUESTION = "How are you?"
FIRST = "What is the weather in Bergen and in Oslo?"
SECOND = "And what is it in Tromsø?"
FORM = "Describe a forecast."
WEATHER = {"Bergen": "7 degrees", "Oslo": "4 degrees", "Tromsø": "1 degree"}


QUESTIONS = (FIRST, SECOND)
_called: list[dict[str, str]] = []
TOOL = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def get_weather(city: str) -> str:
    """Get the weather of a city.

    Args:
        city: The name of the city.
    """
    _called.append({"city": city})
    return f"{city} has {WEATHER[city]}"


def called() -> list[dict[str, str]]:
    """Return the arguments of all calls of `get_weather` since the last time."""
    calls = list(_called)
    _called.clear()
    return calls


def serve(**functions: Callable[[str], Any]) -> None:
    """Answer the lines of stdin until it ends. Async functions share one event loop."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    print(json.dumps({"functions": sorted(functions)}), file=out, flush=True)  # it is ready
    for line in sys.stdin:
        wanted = json.loads(line)
        called()
        function = functions[wanted["function"]]
        answer = function(wanted["model"])
        if inspect.isawaitable(answer):
            answer = loop.run_until_complete(answer)
        print(json.dumps(answer), file=out, flush=True)
