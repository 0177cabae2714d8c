"""Rules over scored segments as they lie in a log: what a worker would have alerted, and after which turn. Pure.

`play` takes the segments in the order of their log, each with the judged partition that it lies in, through the worker's own
pipeline. A lane's clock is that of its records alone; at the end all that is due happens. What a judge takes for a repeat
changes nothing, so the log may hold every position more than once. Alerts depend on what a lane says, never on how lanes
follow each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from streams.conversation import Limits
from streams.outcome import Outcome
from streams.pipeline import NOWHERE, Calls
from streams.quotes import CUSTOMER_SIDE
from streams.records import Alert, Scored, Speaker
from streams.redact import Mask, kept
from streams.rules import RuleSet
from streams.timers import bounded

Placed = tuple[int, Scored]
"""The judged partition (of calls.sentiment) and what lies in it."""
NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn as labels name it: a final segment, heard once. `end_ms` is where the call had got to with it."""

    segment_id: str
    speaker: Speaker
    end_ms: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert and when it came: after turn `turn` of the call (from 0; -1: before the first), the customer having spoken
    `customer_turns` times."""

    alert: Alert
    turn: int
    customer_turns: int


@dataclass(slots=True)
class Course:
    """A call as far as it was judged."""

    turns: list[Spoken] = field(default_factory=list)
    customer_turns: int = 0
    raised: list[Raised] = field(default_factory=list)

    def hear(self, turn: Spoken) -> None:
        self.turns.append(turn)
        self.customer_turns += turn.speaker in CUSTOMER_SIDE


@dataclass(slots=True)
class Played:
    """What a rule set made of a log: its calls in the order in which they began. `rejected` came for calls that were over."""

    courses: dict[str, Course] = field(default_factory=dict)
    judged: int = 0
    repeats: int = 0
    rejected: int = 0

    @property
    def alerts(self) -> list[Alert]:
        """All of them, call by call."""
        return [raised.alert for course in self.courses.values() for raised in course.raised]


class Player:
    """One rule set, with the calls of every judged partition."""

    def __init__(self, limits: Limits, rules: RuleSet, mask: Mask = kept) -> None:
        self._limits, self._rules, self._mask = limits, rules, mask
        self._calls: dict[int, Calls] = {}
        self.played = Played()

    def judge(self, partition: int, scored: Scored) -> None:
        """Takes in the next record of a partition. What is due before it comes after the turns before it."""
        calls = self._of(partition)
        lane, position = scored.source.lane, calls.lanes.get(scored.source.lane, NOWHERE)
        if scored.source.offset > position.offset:
            due = Outcome()
            calls.tick({lane: max(position.clock, bounded(scored).source.timestamp)}, due)
            self._note(due)
        before, outcome = _heard(calls, scored.call_id), Outcome()
        rejected = calls.judge(scored, outcome)
        self.played.judged += outcome.judged
        self.played.repeats += outcome.repeats
        if rejected is not None:
            self.played.rejected += 1
        elif not outcome.repeats:
            course = self.played.courses.setdefault(scored.call_id, Course())
            if _heard(calls, scored.call_id) > before:
                course.hear(Spoken(scored.segment_id or "", scored.speaker, calls.calls[scored.call_id].at_ms))
        self._note(outcome)

    def _of(self, partition: int) -> Calls:
        if partition not in self._calls:
            self._calls[partition] = Calls(self._limits, partitions=1, rules=self._rules, mask=self._mask)
        return self._calls[partition]

    def finish(self) -> Played:
        """After all that is due has happened."""
        for calls in self._calls.values():
            outcome = Outcome()
            calls.tick(dict.fromkeys(calls.timers, NEVER), outcome)
            self._note(outcome)
        return self.played

    def _note(self, outcome: Outcome) -> None:
        for alert in outcome.alerts:
            course = self.played.courses[alert.call_id]
            course.raised.append(Raised(alert, len(course.turns) - 1, course.customer_turns))


def _heard(calls: Calls, call_id: str) -> int:
    """How many turns the judge has heard of a call."""
    call = calls.calls.get(call_id)
    return sum(voice.segments for voice in call.voices.values()) if call is not None else 0


def play(log: Iterable[Placed], limits: Limits, rule_sets: Sequence[RuleSet], mask: Mask = kept) -> list[Played]:
    """What each rule set makes of the log, which is gone through once."""
    players = [Player(limits, rules, mask) for rules in rule_sets]
    for partition, scored in log:
        for player in players:
            player.judge(partition, scored)
    return [player.finish() for player in players]
