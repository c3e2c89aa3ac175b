"""The script of an answer over HTTP, with the faults that only a wire has, and the request that carries it. Pure.

Not here: the scripts without a wire (worker/upstream/providers/scripted.py).
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from worker.upstream.providers.scripted import MODEL, Script, script_of, text_of


class Answer(BaseModel):
    """A whole HTTP answer in place of a stream. A `body` that is a text is sent as it is, others as JSON; `gzip`
    compresses it, whatever was asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    status: int = 200
    headers: dict[str, str] = {}
    body: Any = None
    gzip: bool = False


class WireScript(Script):
    """`Script` with the faults that only a wire has; like the others they come after `after` deltas.

    `hang` never sends the headers, `whole` sends JSON in place of a stream; `reset` and `cut` end the
    connection with a RST and a FIN, before the headers if `after` is 0; `error` is an error object;
    `bad_json` is a line that is not JSON, `bad_utf8` one with a byte that is not UTF-8; `keepalives` are comments
    for ever, `endless_line` is a line for ever. `no_done` leaves out `[DONE]`, `no_end` leaves the body open,
    `never_close` does both.
    """

    FAULTS: ClassVar[tuple[str, ...]] = (
        *Script.FAULTS,
        *("hang", "whole", "reset", "cut", "error", "bad_json", "bad_utf8", "keepalives", "endless_line"),
        *("no_done", "no_end", "never_close"),
    )
    error: Any = Field(None, description="the error object of an `error`")
    http: Answer | None = Field(None, description="answered in place of everything")
    burst: int = Field(1, ge=1, description="unpaced chunks that are written at once")


def ask(*, model: str = MODEL, **script: Any) -> dict[str, Any]:
    """Return a chat request that carries this script."""
    return {"model": model, "messages": [{"role": "user", "content": json.dumps({"script": script})}]}


def expected_text(request: Mapping[str, Any], choice: int = 0) -> str:
    """Return the exact text of the answer to this request, as it is without a fault."""
    return text_of(request, script_of(request, WireScript), choice)
