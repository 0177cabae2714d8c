"""What must lie in the topics after workers were killed, against what does: counts of all that is wrong. Pure.

calls.segments says what had to be scored and what had to be rejected. calls.sentiment as it lies there, each source position
once, says through the pure pipeline which alerts, summaries, states and positions there must be.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace

from models.sentiment import Scorer
from streams.conversation import EPOCH
from streams.outcome import Outcome
from streams.pipeline import Calls, score
from streams.records import Record, Rejected, Scored
from streams.rules import load
from streams.settings import Settings
from streams.topics import Found
from streams.wire import POSITIONS_KEY, cloud_event, decode_scored, encode, partition_of

EXACT = 2e-5  # of a score: what rounding to five decimals may do
EXAMPLES = 4
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """What was left behind: the committed records by the short names of their topics, what the groups "score" and "judge" have
    committed of calls.segments and calls.sentiment, and the wall's clock when everything was over."""

    settings: Settings
    found: Mapping[str, Found]
    records: Mapping[str, Sequence[Record]]
    committed: Mapping[str, Sequence[int]]
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts; `examples` name a few of each.

    `lost`: valid messages that are not on calls.sentiment, with their score, in their call's partition; or that lie there
    behind a later one of their source, where a judge takes them for repeats. `scored_twice`: repeats of a place.
    `states_wrong`: of states and positions. Summaries count as alerts; one whose bytes differ is both missing and extra;
    `alerts_repeated` are word for word the same. `lag`: records that a group has not committed.
    """

    segments: int
    lost: int
    scored_twice: int
    states_wrong: int
    alerts_missing: int
    alerts_extra: int
    alerts_repeated: int
    rejected_missing: int
    rejected_extra: int
    lag: int
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def flawless(self, transactions: bool) -> bool:
        """Whether nothing is wrong that may not be: without transactions, alerts may be repeated."""
        wrong = (self.lost, self.states_wrong, self.alerts_missing, self.alerts_extra, self.rejected_missing)
        return not any((*wrong, self.rejected_extra, self.lag, self.alerts_repeated * transactions))


def judge(left: Left, scorer: Scorer, tolerance: float = EXACT) -> Verdict:
    """Counts all that is wrong. What was scored is scored again; a score may differ by `tolerance`."""
    log = [_first(left, partition) for partition in range(left.found["sentiment"].partitions)]
    due = Due(left, log)
    lost, bad = _input(left, log, scorer, tolerance)
    events, rejected = Counter(_events(left)), set(map(_rejection, left.records.get("rejected", ())))
    wrong: dict[str, list[Key]] = {
        "lost": [*lost, *due.ignored],
        "states_wrong": _different(due.states, _states(left)),
        "alerts_missing": [event for event in due.events if event not in events],
        "alerts_extra": [event for event in events if event not in due.events],
        "alerts_repeated": [event for event, n in events.items() for _ in range(n - 1)],
        "rejected_missing": [*((bad | due.rejected) - rejected)],
        "rejected_extra": [*(rejected - bad - due.rejected)],
        "lag": [*behind(left)],
    }
    return Verdict(
        segments=len(left.records.get("segments", ())),
        scored_twice=len(left.records.get("sentiment", ())) - sum(map(len, log)),
        **{name: len(found) for name, found in wrong.items()},
        examples={name: tuple(str(key[:3]) for key in islice(found, EXAMPLES)) for name, found in wrong.items() if found},
    )


def _first(left: Left, partition: int) -> dict[Key, tuple[Record, Scored]]:
    """The log of a partition of calls.sentiment by source position, each once."""
    first: dict[Key, tuple[Record, Scored]] = {}
    for record in left.records.get("sentiment", ()):
        if record.partition == partition and isinstance(scored := decode_scored(record.value), Scored):
            first.setdefault((scored.source.lane, scored.source.offset), (record, scored))
    return first


class Due:
    """What must have happened by now to what lies on calls.sentiment: events, states and positions, rejections; and the
    source positions that no judge regards, because a later one lies in front of them."""

    def __init__(self, left: Left, log: Sequence[Mapping[Key, tuple[Record, Scored]]]) -> None:
        self.events: set[Key] = set()
        self.states: dict[Key, bytes] = {}
        self.rejected: set[Key] = set()
        self.ignored: list[Key] = []
        for partition, first in enumerate(log):
            calls = Calls(left.settings.limits, len(log), rules=load(left.settings.rules_path))
            for key, (record, scored) in first.items():
                self._judge(calls, key, record, scored)
            outcome = Outcome()
            calls.tick(dict.fromkeys(calls.timers, left.now_ms), outcome)
            self._happened(partition, outcome)
            self.states |= {(partition, call_id.encode()): encode(call) for call_id, call in calls.calls.items()}
            if calls.lanes:
                self.states[partition, POSITIONS_KEY] = encode(calls.positions)

    def _judge(self, calls: Calls, key: Key, record: Record, scored: Scored) -> None:
        outcome = Outcome()
        rejected = calls.judge(scored, outcome)
        self._happened(record.partition, outcome)
        if rejected:
            self.rejected.add(_place(record, rejected))
        if outcome.repeats:
            self.ignored.append(("behind a later one", *key))

    def _happened(self, partition: int, outcome: Outcome) -> None:
        for name, events in (("alerts", outcome.alerts), ("summaries", outcome.summaries)):
            self.events |= {(name, partition, dict(cloud_event(event))["ce_id"], encode(event)) for event in events}


def _input(
    left: Left, log: Sequence[Mapping[Key, tuple[Record, Scored]]], scorer: Scorer, tolerance: float
) -> tuple[list[Key], set[Key]]:
    """The places in calls.segments whose scored segment is not where and what it should be; the rejections there must be."""
    records, topic = left.records.get("segments", ()), left.found["segments"]
    results = score(records, scorer, left.settings.policy, topic.topic_id, lambda: EPOCH)
    lost: list[Key] = []
    for record, result in zip(records, results, strict=True):
        if isinstance(result, Scored):
            partition = partition_of(result.call_id, len(log))
            _, there = log[partition].get((result.source.lane, result.source.offset), (None, None))
            if there is None or not _alike(result, there, tolerance):
                lost.append(("absent" if there is None else "another", record.partition, record.offset))
    return lost, {_place(record, bad) for record, bad in zip(records, results, strict=True) if isinstance(bad, Rejected)}


def _alike(ours: Scored, theirs: Scored, tolerance: float) -> bool:
    if ours.sentiment and theirs.sentiment and abs(ours.sentiment.score - theirs.sentiment.score) <= tolerance:
        ours = replace(ours, sentiment=theirs.sentiment)
    return replace(ours, scored_at=theirs.scored_at) == theirs


def _events(left: Left) -> Iterator[Key]:
    for name in ("alerts", "summaries"):
        for record in left.records.get(name, ()):
            yield name, record.partition, dict(record.headers).get("ce_id"), record.value


def _place(record: Record, rejected: Rejected) -> Key:
    return record.topic, record.partition, record.offset, rejected.reason, record.key, record.value


def _rejection(record: Record) -> Key:
    """As `_place` has it of the original."""
    said = {name: (value or b"").decode() for name, value in record.headers if name.startswith("callpulse-")}
    partition, offset = int(said.get("callpulse-partition", -1)), int(said.get("callpulse-offset", -1))
    return said.get("callpulse-topic"), partition, offset, said.get("callpulse-reason"), record.key, record.value


def _states(left: Left) -> dict[Key, bytes]:
    """The newest by partition and key; what was removed is not there."""
    newest = {(record.partition, record.key): record.value for record in left.records.get("state", ())}
    return {key: value for key, value in newest.items() if value is not None}


def _different(due: Mapping[Key, bytes], there: Mapping[Key, bytes]) -> list[Key]:
    wrong = [key for key in {**due, **there} if due.get(key) != there.get(key)]
    return [(*key, "another" if key in due and key in there else "absent" if key in due else "too many") for key in wrong]


def behind(left: Left) -> Iterator[Key]:
    """What the groups have not committed."""
    for role, name in (("score", "segments"), ("judge", "sentiment")):
        for record in left.records.get(name, ()):
            if record.offset >= left.committed[role][record.partition]:
                yield role, record.partition, record.offset
