"""Replies of all dialects, folded to one comparable answer. Pure: bytes in, an `Answer` out.

Chat and Responses are folded by openai-python's own accumulators, the AI SDK's stream by the rules of its
`processUIMessageStream`, the native stream by the rules of the replay log. Each folder also asserts its dialect's form:
a reply that the official client could not read fails here. Not here: sending a request (tests/cases/dialects.py).
"""

from tests.support.folded.answer import DONE, Answer, Call, Trouble, canonical, failed, payloads
from tests.support.folded.chats import fold_chat, fold_chat_stream, fold_error, fold_text, fold_text_stream
from tests.support.folded.logs import fold_native, fold_transcript
from tests.support.folded.pages import fold_ui
from tests.support.folded.responses import RESPONSE_CODES, fold_response, fold_response_stream

__all__ = [
    "DONE",
    "RESPONSE_CODES",
    "Answer",
    "Call",
    "Trouble",
    "canonical",
    "failed",
    "fold_chat",
    "fold_chat_stream",
    "fold_error",
    "fold_native",
    "fold_response",
    "fold_response_stream",
    "fold_text",
    "fold_text_stream",
    "fold_transcript",
    "fold_ui",
    "payloads",
]
