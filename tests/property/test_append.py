"""Compare the append protocol with a plain list: any steps, by any owners, in any order, on the real server.

After each step the log must equal the list, and exactly the logged entries must be published.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    rule,
)

from shared.model.errors import Drained, ProviderTimeout, WorkerLost
from shared.model.events import START, EventId, EventType, decode_frame, encode_data, encode_frame, split_frames
from shared.model.lifecycle import TERMINAL, State
from shared.store.executions import ROLLED_BACK, Execution, Succession
from shared.store.replay_log import Entry
from shared.store.wire.answers import AppendAnswer, Behind, FinishAnswer, StopReason, Written
from tests.support.core import Core, Listener, frames_of
from tests.support.server_steps import ServerSteps, run_steps

OWNERS = st.sampled_from(["w.1", "w.2", "reaper"])
ENDINGS = st.sampled_from(sorted(TERMINAL))
# Some are over 16 KiB: their channel carries a nudge.
TEXTS = st.lists(st.sampled_from(["a", "é\u2028", "\n\nid: 9-9\n\n", "x" * 9_000]), min_size=1, max_size=3)


@dataclass
class Model:
    """Hold the expected contents of Redis: the record's fields that matter, and the log as a list of frames."""

    log: list[bytes]
    published: list[bytes]
    status: State = State.QUEUED
    epoch: int = 0
    owner: str = ""
    seq: int = 1
    attempts: int = 0
    left: str = ""

    def refusal(self, epoch: int, owner: str) -> StopReason | None:
        if self.status in TERMINAL:
            return StopReason.ENDED
        return None if (epoch, owner) == (self.epoch, self.owner) else StopReason.FENCED

    def add(self, frames: bytes, last: int) -> None:
        self.log += split_frames(frames)
        self.published.append(frames if len(frames) <= 16_384 else b"")
        self.seq = last

    def append(self, entry: Entry) -> AppendAnswer:
        """Return the answer that the log must give; accepted frames are added."""
        if refusal := self.refusal(entry.epoch, entry.owner):
            return refusal
        if self.status is State.CANCELLING:
            return StopReason.CANCELLED
        if entry.last <= self.seq:
            return Written(repeated=True)
        if entry.first != self.seq + 1:
            return Behind(self.seq)
        self.add(entry.frames, entry.last)
        return Written()

    def finish(self, execution: Execution, seq: int, status: State, frame: bytes) -> FinishAnswer:
        """Return the answer that `finish` must give; an accepted terminal event is added."""
        refusal = self.refusal(execution.epoch, execution.owner)
        if refusal is StopReason.ENDED and (execution.epoch, execution.owner, seq) == (
            self.epoch,
            self.owner,
            self.seq,
        ):
            return Written(repeated=True)
        if refusal:
            return refusal
        if self.status is State.CANCELLING and status is not State.CANCELLED:
            return StopReason.CANCELLED
        allowed = {
            State.QUEUED: {State.FAILED, State.EXPIRED},
            State.RUNNING: {State.COMPLETED, State.FAILED, State.EXPIRED},
            State.CANCELLING: {State.CANCELLED},
        }
        if status not in allowed[self.status]:
            return StopReason.NOT_ALLOWED
        if seq != self.seq + 1:
            return Behind(self.seq)
        self.add(frame, seq)
        self.status = status
        return Written()


class AppendProtocol(ServerSteps):
    """Run several owners at one job."""

    executions = Bundle("executions")
    sent = Bundle("sent")

    def read(self) -> list[bytes]:
        """Read the real log, as a list of frames."""
        page = self.run(self.core.log.read_after(self.job_id, START, max_bytes=1 << 30))
        assert page.status is self.model.status
        return [frame for entry in page.entries for frame in split_frames(entry)]

    @initialize(target=executions)
    def submit(self) -> Any:
        self.core: Core = self.open_core()
        self.job_id = self.run(self.core.queued())
        channel = self.core.keys.channel(self.job_id)
        self.listener: Listener = self.run(self.stack.enter_async_context(self.core.listening(channel)))
        queued = encode_data({"job": self.job_id, "lane": "default", "position": 1})
        self.model = Model([encode_frame(EventType.QUEUED, queued, EventId(0, 1))], [])
        return multiple()

    @rule(
        target=executions,
        owner=OWNERS,
        late=st.booleans(),
        former=st.sampled_from(["", "", "w.1", "w.2"]),
        resumes=st.sampled_from(["rollback", "nothing", "goes on"]),
        seen=st.sampled_from(["unread", "read", "read too early"]),
    )
    def begin(self, owner: str, late: bool, former: str, resumes: str, seen: str) -> Any:
        model = self.model
        epoch = model.epoch - 1 if late else model.epoch
        last = EventId(model.epoch, model.seq)
        after = Succession(
            cause=ProviderTimeout("It was silent.") if former else WorkerLost.because_of_silence(),
            former=former,
            resumed_from={"rollback": ROLLED_BACK, "nothing": None, "goes on": last}[resumes],
            seen={"unread": None, "read": last, "read too early": EventId(model.epoch, model.seq + 1)}[seen],
        )
        answer = self.run(
            self.core.executions.begin(self.job_id, owner, epoch=epoch, model="m", provider="p", after=after)
        )
        if model.status in TERMINAL:
            assert answer == "ended"
        elif model.status is State.CANCELLING:
            assert answer == "cancelling"
        elif model.status is State.RUNNING and model.owner == owner:  # the same call, sent again
            assert isinstance(answer, Execution)
            assert (answer.epoch, answer.seq, answer.attempt) == (model.epoch, model.seq, model.attempts)
        elif late or former not in ("", model.owner):
            assert answer == "stale"
        elif seen == "read too early":
            assert answer == "moved"
        else:
            return self.began(answer, owner, after)
        return multiple()

    def began(self, answer: object, owner: str, after: Succession) -> Execution:
        model = self.model
        assert isinstance(answer, Execution)
        assert answer.epoch > model.epoch
        assert answer.base == len(model.log)
        model.attempts += 1
        frames: list[tuple[EventType, dict[str, object]]] = []
        resumed_from = None
        if model.epoch > 0:
            if after.resumed_from == ROLLED_BACK:
                frames.append((EventType.ROLLBACK, {"to": "0-1", "reason": model.left or after.cause.code}))
            elif after.resumed_from is not None:
                resumed_from = str(after.resumed_from)
            model.left = ""
        started = {"attempt": model.attempts, "model": "m", "provider": "p", "resumed_from": resumed_from}
        frames.append((EventType.STARTED, started))
        model.status, model.epoch, model.owner = State.RUNNING, answer.epoch, owner
        entry = [
            encode_frame(event, encode_data(data), EventId(answer.epoch, seq))
            for seq, (event, data) in enumerate(frames, 1)
        ]
        model.add(b"".join(entry), len(entry))
        assert (answer.seq, answer.attempt) == (model.seq, model.attempts)
        return answer

    @rule(target=executions, owner=OWNERS)
    def take_over(self, owner: str) -> Any:
        answer = self.run(self.core.executions.take_over(self.job_id, owner))
        if self.model.status in TERMINAL:
            assert answer == "ended"
            return multiple()
        assert isinstance(answer, Execution)
        assert answer.epoch > self.model.epoch
        assert answer.base == len(self.model.log)
        self.model.epoch, self.model.owner, self.model.seq = answer.epoch, owner, 0
        self.model.left = ""  # a cause is that of the last execution, and this one has none yet
        return answer

    @rule(execution=executions)
    def hand_back(self, execution: Execution) -> None:
        mine = self.model.refusal(execution.epoch, execution.owner) is None
        assert self.run(self.core.executions.leave(execution, Drained("It was stopped."), costs=False)) == mine
        if mine:
            self.model.owner, self.model.left = "", "drain"
            self.model.attempts -= 1

    @rule(target=sent, execution=executions, skipped=st.sampled_from([0, 0, 0, 0, -1, 1]), texts=TEXTS)
    def append(self, execution: Execution, skipped: int, texts: list[str]) -> Entry:
        entry = frames_of(execution, max(self.model.seq + 1 + skipped, 1), *texts)
        self.send(entry)
        return entry

    @rule(entry=sent)
    def send_again(self, entry: Entry) -> None:
        self.send(entry)

    @rule(entries=st.lists(sent, min_size=2, max_size=4))
    def send_many_in_one_call(self, entries: list[Entry]) -> None:
        self.send(*entries)

    def send(self, *entries: Entry) -> None:
        expected = [self.model.append(entry) for entry in entries]
        assert self.run(self.core.append(*entries)) == expected

    @rule(execution=executions, status=ENDINGS, skipped=st.sampled_from([0, 0, 0, -1, 1]))
    def finish(self, execution: Execution, status: State, skipped: int) -> None:
        seq = max(self.model.seq + 1 + skipped, 1)
        data = encode_data({"status": status})
        frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, seq))
        expected = self.model.finish(execution, seq, status, frame)

        answer = self.run(self.core.executions.finish(execution, seq=seq, frame=frame, status=status, outcome=data))

        assert answer == expected

    @rule()
    def cancel(self) -> None:
        model = self.model
        answer = self.run(self.core.cancel(self.job_id))
        if model.status in TERMINAL:
            assert answer == "ended"
        elif model.status is State.QUEUED:
            assert answer == "cancelled"
            frame = self.read_unchecked()[-1]
            assert decode_frame(frame).id == (model.epoch, model.seq + 1)
            model.add(frame, model.seq + 1)
            model.status, model.owner = State.CANCELLED, ""
        else:
            assert answer == "cancelling"
            model.status = State.CANCELLING

    def read_unchecked(self) -> list[bytes]:
        return list(split_frames(self.run(self.core.log_bytes(self.job_id))))

    @invariant()
    def the_log_is_the_list(self) -> None:
        log = self.read()
        assert log == self.model.log
        ids = [decode_frame(frame).id for frame in log]
        assert ids == sorted(set(ids), key=lambda event_id: event_id or START)

    @invariant()
    def what_is_published_is_what_is_logged(self) -> None:
        assert self.run(self.listener.received()) == self.model.published
        self.model.published.clear()

    @invariant()
    def nothing_follows_a_terminal_event(self) -> None:
        types = [decode_frame(frame).type.value for frame in self.model.log]
        assert not TERMINAL & set(types[:-1])
        assert (types[-1] in TERMINAL) == (self.model.status in TERMINAL)


def test_the_log_is_a_plain_list_and_each_published_event_is_logged_after_any_steps(redis_url: str) -> None:
    run_steps(AppendProtocol, redis_url, examples=40)
