"""The score of a run: the promises, the results, and whether each promise was fulfilled."""

from dataclasses import asdict, dataclass, field
from typing import Any

CONTINUE = "continue"
MOST_TWICE = 0.02
"""Where answers are gone on with, less than this share of all tokens may be generated a second time."""
RESTORE_S = 15.0
"""What a killed Valkey has forgotten is asked for again within so long."""
IN_FLIGHT_S = 5.0
"""An event may be received so long after it was logged: its gateway was frozen, or had much to send."""


@dataclass
class Score:
    """Counted from the readers' side. `problems` are sentences for a person; there should be none."""

    seed: int
    seconds: float
    policy: str = CONTINUE
    """What becomes of an answer whose upstream or worker fails in the middle: `continue` or `rollback`."""
    accepted: int = 0
    ended: int = 0
    readers: int = 0
    tokens: int = 0
    lost: int = 0
    repeated: int = 0
    gaps: int = 0
    forgotten: int = 0
    """Jobs that Redis forgot when it was killed: the reader got a 404, and submitted again under its key."""
    rollbacks: int = 0
    continued: int = 0
    """Count the executions that continued a lost one, as the readers saw them."""
    generated: int = 0
    """Tokens that the upstream wrote to its sockets."""
    generated_twice: int = 0
    """Those of them that it had written before, in another answer to the same request."""
    forgotten_twice: int = 0
    """Those of `generated_twice` in calls that began soon after Valkey was killed, which may have forgotten them."""
    reconnects: int = 0
    frozen: int = 0
    """Readers who took nothing for longer than the gateways' `send_timeout_s`."""
    chats: int = 0
    chats_complete: int = 0
    chats_refused: int = 0
    """Count the chat calls that were refused or cut off."""
    open_calls: int = 0
    longest_stall_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    deadly_at: list[float] = field(default_factory=list)
    """When Valkey was killed or flushed (monotonic s): what it had acknowledged may be gone."""
    stall_bound_s: float = float("inf")
    """No reader may hear nothing for longer than this, whatever happened."""
    unread: set[str] = field(default_factory=set)
    """Accepted jobs whose end nobody has read yet."""
    problems: list[str] = field(default_factory=list)

    @property
    def unended(self) -> int:
        """Accepted jobs without an end that a reader saw."""
        return self.accepted - self.ended

    @property
    def twice_share(self) -> float:
        """Of the tokens that were generated, how many had been before."""
        return self.generated_twice / max(1, self.generated)

    @property
    def wasted_share(self) -> float:
        """Return the share of tokens generated twice, without those that Valkey may have forgotten."""
        return (self.generated_twice - self.forgotten_twice) / max(1, self.generated)

    @property
    def kept(self) -> bool:
        """Return whether the promise was kept."""
        silent = self.lost or self.repeated or self.unended or self.open_calls or self.problems
        reported = (self.gaps or self.forgotten) and not self.deadly_at
        stalled = self.longest_stall_s > self.stall_bound_s
        over_budget = self.policy == CONTINUE and self.wasted_share >= MOST_TWICE
        return bool(self.tokens) and not (silent or reported or stalled or over_budget)

    def generated_again(self, count: int, began: float) -> None:
        """A call that `began` then (monotonic s) has said so many tokens again."""
        self.generated_twice += count
        if any(at <= began <= at + RESTORE_S for at in self.deadly_at):
            self.forgotten_twice += count

    def record_loss(self, what: str, since: float, now: float) -> None:
        """Record a reader's loss of events as a problem, unless a Valkey was killed after its last event."""
        if not any(since - IN_FLIGHT_S <= at <= now for at in self.deadly_at):
            before = [since - at for at in self.deadly_at if at <= since]
            last = f"the last time {min(before):.1f} s before that event" if before else "not once before"
            self.problems.append(
                f"{what} {now - since:.1f} s after its last event, and no Valkey was killed or flushed meanwhile"
                f" ({last})."
            )

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        found = {
            "unended": self.unended,
            "twice_share": self.twice_share,
            "wasted_share": self.wasted_share,
            "kept": self.kept,
        }
        return {**asdict(self), "unread": sorted(self.unread), **found}

    def table(self) -> str:
        """For people."""
        rows: list[tuple[str, object]] = [
            ("seed, seconds, policy", f"{self.seed}, {self.seconds:.0f}, {self.policy}"),
            ("jobs accepted, ended", f"{self.accepted:,}, {self.ended:,}"),
            ("readers, reconnects", f"{self.readers:,}, {self.reconnects:,}"),
            ("tokens expected", f"{self.tokens:,}"),
            ("tokens lost, repeated", f"{self.lost:,}, {self.repeated:,}"),
            ("jobs unended", self.unended),
            ("answers gone on with, rollbacks obeyed", f"{self.continued:,}, {self.rollbacks:,}"),
            ("tokens generated", f"{self.generated:,}"),
            ("tokens generated twice", f"{self.generated_twice:,}, {self.twice_share:.2%}"),
            (
                f"the same without those within {RESTORE_S:g} s of a killed or flushed Valkey",
                f"{self.wasted_share:.2%}",
            ),
            ("`gap`s sent, jobs forgotten by a killed or flushed Valkey", f"{self.gaps}, {self.forgotten}"),
            ("chat calls: complete, refused or cut off", f"{self.chats_complete:,}, {self.chats_refused:,}"),
            ("upstream calls left open", self.open_calls),
            ("longest stall of a reader, bound", f"{self.longest_stall_s:.1f} s, {self.stall_bound_s:.1f} s"),
            ("readers frozen for longer than a send may take", self.frozen),
            ("faults", ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        lines += [f"UNENDED: {job_id}" for job_id in sorted(self.unread)]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])
