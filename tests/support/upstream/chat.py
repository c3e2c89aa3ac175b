"""The answer to one chat request: the script's chunks at its pace, and its fault.

Not here: the bytes of HTTP (writer.py).
"""

import asyncio
import time

from shared.model.errors import ProviderRefused
from tests.support.continuation import WrongBeginning, begun, rest
from tests.support.upstream.bodies import encode, error, event, is_token, question, refusal, whole
from tests.support.upstream.script import Answer, WireScript
from tests.support.upstream.seen import Seen
from tests.support.upstream.state import Upstream
from tests.support.upstream.writer import AnswerWriter
from worker.upstream.providers.scripted import script_of

_BAD_DATA = {
    "nonsense": b'["nonsense"]',
    "bad_json": b'{"choices": [{"delta": {"content": "half a',
    "bad_utf8": b'{"choices": [{"delta": {"content": "\xff"}}]}',
}
_POLL_S = 0.005


class ChatAnswer:
    """Play the script of one request."""

    def __init__(self, upstream: Upstream, writer: AnswerWriter, seen: Seen) -> None:
        self._upstream = upstream
        self._writer = writer
        self._seen = seen

    async def send(self) -> None:
        """Send the answer, with the fault of its script."""
        try:
            script = self._befallen(script_of(self._seen.body, WireScript))
        except ProviderRefused as unknown:
            self._writer.send(refusal(unknown.status, str(unknown), unknown.code, unknown.param))
            return
        except WrongBeginning as wrong:
            self._upstream.meter.problems.append(f"The upstream can't go on as it was asked to: {wrong}")
            self._writer.send(refusal(400, str(wrong), "invalid_request_error", "messages"))
            return
        if script.http is not None:
            self._writer.send(script.http)
        elif script.fault == "refuse" and not script.after:
            refused = ProviderRefused(script.message, code=script.code)
            self._writer.send(refusal(refused.status, script.message, script.code))
        elif script.fault == "hang":
            await self._upstream.say_no_more(self._seen)
        elif script.fault in ("reset", "cut") and not script.after:
            self._writer.break_off(script)
        elif script.fault == "whole" or not self._seen.body.get("stream"):
            self._writer.send(Answer(body=whole(self._seen.body, script)))
        else:
            await self._stream(script)

    def _befallen(self, script: WireScript) -> WireScript:
        """Choose the script of this call: the rest of the request's script, unless a planned fault changes it."""
        manner, meter = self._upstream.manner, self._upstream.meter
        self._seen.begun = begun(self._seen.body, script, manner.continuation)
        left = max(1, (script.tokens or 0) - self._seen.begun)
        if (planned_fault := manner.planned_fault(question(self._seen.body), script, left)) is None:
            return script
        kind, script = planned_fault
        meter.planned_faults[kind] += 1
        return script

    async def _stream(self, script: WireScript) -> None:
        self._writer.begin_stream()
        asked = question(self._seen.body)
        if not (self._seen.body.get("stream_options") or {}).get("include_usage"):
            script = script.model_copy(update={"usage": False})
        start = time.monotonic()
        burst: list[bytes] = []
        for chunk in rest(self._seen.body, script, self._seen.begun):
            if chunk is None:
                self._writer.write(b"".join(burst))
                burst.clear()
                if not await self._suffer(script):
                    return
                continue
            if script.rate and self._seen.sent > 1:  # a role and a first token come at once
                await asyncio.sleep(start + (self._seen.sent - 1) / script.rate - time.monotonic())
            if is_token(chunk):
                await self._reader_keeps_up()
                self._upstream.meter.count(asked, self._seen.begun + self._seen.tokens, self._seen.started)
                self._seen.tokens += 1
            burst.append(event(encode(chunk).encode()))
            self._seen.sent += 1
            if script.rate or len(burst) >= script.burst:
                self._writer.write(b"".join(burst))
                burst.clear()
                await asyncio.sleep(0)
                await self._writer.writable.wait()
        self._writer.write(b"".join(burst))
        if script.fault not in ("no_done", "never_close"):
            self._writer.write(event(b"[DONE]"))
        if script.fault in ("never_close", "no_end"):
            await self._upstream.say_no_more(self._seen)
        self._writer.end_body()

    async def _reader_keeps_up(self) -> None:
        ahead, unread = self._upstream.manner.ahead, self._upstream.unread
        if ahead is None or unread is None:
            return
        while unread.of(*self._writer.ends) >= ahead:
            self._seen.held_up = True
            self._upstream.notice()
            await asyncio.sleep(_POLL_S)

    async def _suffer(self, script: WireScript) -> bool:
        """Play the fault; return whether the answer continues after it."""
        match script.fault:
            case "stall" if script.stall_s is None:
                await self._upstream.say_no_more(self._seen)
            case "stall":
                await asyncio.sleep(script.stall_s or 0)
            case "refuse":
                self._writer.write(event(encode(error(script.message, script.code)).encode()))
            case "error":
                self._writer.write(event(encode({"error": script.error}).encode()))
            case "nonsense" | "bad_json" | "bad_utf8":
                self._writer.write(event(_BAD_DATA[script.fault]))
            case "truncate":
                self._writer.end_body()
                return False
            case "reset" | "cut":
                self._writer.break_off(script)
                return False
            case "keepalives":
                self._seen.silent = True
                while True:
                    self._upstream.notice()
                    self._writer.write(b": still here\n\n")
                    await asyncio.sleep(0.01)
            case "endless_line":
                self._writer.write(b"data: ")
                while True:
                    self._writer.write(b"x" * 65_536)
                    await asyncio.sleep(0)
                    await self._writer.writable.wait()
        return True
