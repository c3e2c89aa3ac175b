"""Cache the state of answers that was read lately. Pure. Not here: how it is read (logged_answer.py)."""

from collections import OrderedDict

from gateway.dialects.responses.logged_answer import LoggedAnswer
from shared.model.bounds import RECENT_ANSWERS, RECENT_ANSWERS_BYTES
from shared.model.events import encode_data

_NOTHING = LoggedAnswer()


class RecentAnswers:
    """Cache answers within a bound: an agent sends its whole history each time, and an ended log never changes."""

    def __init__(self, most: int = RECENT_ANSWERS, most_bytes: int = RECENT_ANSWERS_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._answers: OrderedDict[str, LoggedAnswer] = OrderedDict()
        self._bytes = 0

    def get(self, job_id: str) -> LoggedAnswer | None:
        """Return the answer of a job; None if it is not known."""
        if job_id not in self._answers:
            return None
        self._answers.move_to_end(job_id)
        return self._answers[job_id]

    def put(self, job_id: str, answer: LoggedAnswer) -> None:
        """Remember the answer of an ended job, and forget those that were used longest ago."""
        self._bytes += size_of(answer) - size_of(self._answers.pop(job_id, _NOTHING))
        self._answers[job_id] = answer
        while len(self._answers) > self._most or self._bytes > self._most_bytes:
            self._bytes -= size_of(self._answers.popitem(last=False)[1])


def size_of(answer: LoggedAnswer) -> int:
    """Return the bytes of an answer's state as they are sent up."""
    return len(encode_data([answer.thoughts, answer.calls])) if answer.calls else 0
