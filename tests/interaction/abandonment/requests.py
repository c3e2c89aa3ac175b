"""Build the requests for a job, in each dialect.

Not here: their routes (routes.py).
"""

import json
from typing import Any


def words(**script: Any) -> list[dict[str, Any]]:
    """Make a chat's messages, with the script of the upstream."""
    return [{"role": "user", "content": json.dumps({"script": script})}]


def chat(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": words(**script), "stream": True}


def whole_chat(**script: Any) -> dict[str, Any]:
    return {**chat(**script), "stream": False}


def native(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": words(**script), "on_disconnect": "cancel"}


def response(**script: Any) -> dict[str, Any]:
    return {"model": "scripted", "input": words(**script)[0]["content"], "stream": True}


def whole_response(**script: Any) -> dict[str, Any]:
    return {**response(**script), "stream": False}


def background(**script: Any) -> dict[str, Any]:
    return {**response(**script), "stream": False, "background": True}


def background_stream(**script: Any) -> dict[str, Any]:
    return {**response(**script), "background": True}


def page(**script: Any) -> dict[str, Any]:
    said = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": words(**script)[0]["content"]}]}
    return {"model": "scripted", "id": "c1", "messages": [said], "trigger": "submit-message"}
