"""Read, score and judge as pure functions of what lies in the topics: no broker, no clock, no thread of its own.

The worker's agents are these functions with delivery around them; a backtest or a test calls them on lists of records.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from models.sentiment import Scorer
from models.sentiment import Sentiment as ModelSentiment
from models.staged import Failure, Result
from streams.alerts import Judgement, due, follow, reload, resolve_all
from streams.census import Census, Queues
from streams.conversation import Conversation, Limits, Position, Positions, Timing, advance, closed
from streams.episodes import open_count
from streams.errors import PoisonError
from streams.held import States
from streams.outcome import Outcome
from streams.records import Model, Record, Rejected, Scored, Segment, Sentiment, Skipped, Source
from streams.redact import Mask, kept
from streams.rules import RuleSet, load
from streams.summary import summarise
from streams.timers import Timers, bounded
from streams.wire import decode, decode_standing


@dataclass(frozen=True, slots=True)
class Policy:
    """What is scored: final segments of these speakers; partials only when switched on."""

    speakers: frozenset[str] = frozenset(("customer", "unknown"))
    partials: bool = False

    def skipped(self, segment: Segment) -> Skipped | None:
        """Why a segment is passed on unscored; None when it is to be scored."""
        if segment.type != "segment":
            return "event"
        if segment.speaker not in self.speakers:
            return "speaker"
        if not segment.final and not self.partials:
            return "partial"
        return None if segment.text.strip() else "empty"


@dataclass(frozen=True, slots=True)
class Reading:
    """Records, each with what it was decoded to and why it is not scored; `wanted` are the places of those that are."""

    records: Sequence[Record]
    decoded: Sequence[Segment | Rejected]
    skipped: Sequence[Skipped | None]
    wanted: Sequence[int]
    texts: Sequence[str]


def read(records: Sequence[Record], policy: Policy) -> Reading:
    """What the records say, and which texts are to be scored. Raises PoisonError at a record that the code fails on."""
    decoded = [at(record, decode, record.value) for record in records]
    skipped = [policy.skipped(d) if isinstance(d, Segment) else None for d in decoded]
    wanted = [i for i, d in enumerate(decoded) if isinstance(d, Segment) and skipped[i] is None]
    return Reading(records, decoded, skipped, wanted, [d.text for i in wanted if isinstance(d := decoded[i], Segment)])


def assemble(reading: Reading, results: Sequence[Result], stamp: "Stamp") -> list[Scored | Rejected]:
    """One result a record, in order, from one a text of the reading. Raises PoisonError at a record that the code fails on."""
    scored = dict(zip(reading.wanted, results, strict=True))
    rows = zip(reading.records, reading.decoded, reading.skipped, strict=True)
    return [at(record, _assembled, record, d, why, scored.get(i), stamp) for i, (record, d, why) in enumerate(rows)]


def score(
    records: Sequence[Record], scorer: Scorer, policy: Policy, topic_id: str, clock: Callable[[], datetime], mask: Mask = kept
) -> list[Scored | Rejected]:
    """One result a record, in order: decode everything, score in one call what the policy wants scored. `clock` is read once,
    when the scores are there."""
    reading = read(records, policy)
    results = scorer.score(reading.texts) if reading.texts else []
    return assemble(reading, results, Stamp(topic_id, Model(scorer.name, scorer.revision, scorer.precision), clock(), mask))


T = TypeVar("T")


def at(record: Record, act: Callable[..., T], *arguments: object) -> T:
    """What `act` returns; what it raises is told as the record's PoisonError."""
    try:
        return act(*arguments)
    except Exception as error:
        raise PoisonError(record.topic, record.partition, record.offset) from error


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all segments of a batch share; `mask` is what becomes of a text once it is scored."""

    topic_id: str
    model: Model
    now: datetime
    mask: Mask = kept


def _assembled(
    record: Record, segment: Segment | Rejected, skipped: Skipped | None, result: Result | None, stamp: Stamp
) -> Scored | Rejected:
    if isinstance(segment, Rejected):
        return segment
    if isinstance(result, Failure):
        return Rejected("scoring_failed", result.reason)
    place = f"{record.partition}:{record.offset}"
    return Scored(
        **{name: getattr(segment, name) for name in _SEGMENT_FIELDS},
        segment_id=segment.segment_id or (place if segment.type == "segment" else None),
        text=stamp.mask(segment.text),
        source=Source(stamp.topic_id, record.partition, record.offset, record.timestamp),
        scored_at=stamp.now,
        model=stamp.model,
        sentiment=_rounded(result) if result else None,
        skipped=skipped,
        truncated=bool(result and result.truncated),
    )


_SEGMENT_FIELDS = tuple(name for name in Segment.__struct_fields__ if name not in ("segment_id", "text"))


def _rounded(s: ModelSentiment) -> Sentiment:
    return Sentiment(s.label, round(s.score, 5), round(s.negative, 5), round(s.neutral, 5), round(s.positive, 5))


NOWHERE = Position(-1, 0)


class Calls:
    """The calls of one judged partition: their states, how far each source partition is judged, and what is due.

    A source partition ("lane") has a clock: the highest timestamp of its records. Before a record is judged, everything
    due on its lane by its timestamp happens; `tick` moves all clocks when the partition is drained and nothing arrives. What
    was said goes through `mask` first: calls.sentiment may hold what a scorer wrote that masked less. `rules` None:
    those that are on by default. `census` counts the live calls by queue, under the names that `queues` gives.

    What other rules have judged, here before `take` or in another worker, is `untaken` until `take_over`: before anything is
    judged, open alerts of rules that are gone resolve, of all calls. A state in which none does stays as it is stored, and is
    taken over, in the same way, when it is next touched.
    """

    def __init__(
        self,
        limits: Limits,
        partitions: int,
        states: Iterable[Conversation] = (),
        positions: Positions | None = None,
        rules: RuleSet | None = None,
        mask: Mask = kept,
        queues: Queues | None = None,
    ) -> None:
        self.limits, self.rules = limits, rules if rules is not None else load(None)
        self.census = Census(queues or Queues())
        self.partitions = partitions
        self.mask, self.calls = mask, States(mask)
        self.lanes: dict[str, Position] = dict(positions.lanes) if positions else {}
        self.timers = Timers()
        self.untaken: list[str] = []
        for call in states:
            self.calls[call.call_id] = call
            self._met(call)
            self.census.note(call, open_count(call.episodes))

    def load(self, states: Iterable[bytes]) -> None:
        """Takes in states as they lie on calls.state, each of another call, and leaves them encoded until they are touched."""
        for state in states:
            standing = decode_standing(state)
            self.calls.put(standing.call_id, state)
            self._met(standing)
            self.census.note(standing, standing.open_alerts)

    def _met(self, timing: Timing) -> None:
        self._schedule(timing)
        if timing.status != "closed" and timing.rules != self.rules.hash:
            self.untaken.append(timing.call_id)

    def take(self, rules: RuleSet) -> None:
        """Judges by these from now on."""
        if rules.hash != self.rules.hash:
            self.rules, self.untaken = rules, list(self.calls)

    def take_over(self, most: int, outcome: Outcome) -> None:
        """Takes over so many of the calls that are `untaken`."""
        for call_id in self.untaken[-most:]:
            timing = self.calls.timing(call_id)
            if timing.status != "closed" and timing.rules != self.rules.hash:
                timing = self._taken(self.calls.seen(call_id), outcome)
            self._schedule(timing)
        del self.untaken[-most:]

    def _taken(self, call: Conversation, outcome: Outcome) -> Conversation:
        """The call, as the rules in force take it over."""
        judgement = reload(call, self.rules)
        if judgement.alerts:
            self._follow(judgement, outcome)
        return judgement.call

    @property
    def positions(self) -> Positions:
        return Positions(self.partitions, dict(self.lanes))

    def judge(self, scored: Scored, outcome: Outcome) -> Rejected | None:
        """Advances the call of one scored segment; a repeat of what was judged before changes nothing. Returns why the
        segment cannot be used when its call is over."""
        scored = bounded(scored)
        source, position = scored.source, self.lanes.get(scored.source.lane, NOWHERE)
        if source.offset <= position.offset:
            outcome.repeats += 1
            return None
        clock = max(position.clock, source.timestamp)
        self._fire(source.lane, clock, outcome)
        self.lanes[source.lane] = Position(source.offset, clock)
        outcome.judged += 1
        if (call := self.calls.get(scored.call_id)) is not None:
            call = self._taken(call, outcome)
        if call is not None and source.offset <= call.positions.get(source.lane, -1):
            outcome.repeats += 1
            self._schedule(call)
            return None
        outcome.scored_at.append(scored.scored_at)
        return self._advance(call, scored, outcome)

    def _advance(self, before: Conversation | None, scored: Scored, outcome: Outcome) -> Rejected | None:
        if before is not None and before.status == "closed":
            return Rejected("call_ended", "the call's summary has been published")
        if (text := self.mask(scored.text)) != scored.text:
            scored = replace(scored, text=text)
        after = advance(before, scored)
        judgement = follow(before, after, scored, self.rules)
        outcome.raised_at += [scored.source.timestamp] * len(judgement.alerts)
        if before is None or after.turns is not before.turns:
            outcome.hear(scored, self.census.queues.of(after.attributes))
        self._follow(judgement, outcome)
        return None

    def tick(self, clocks: dict[str, int], outcome: Outcome) -> None:
        """Lets everything happen that is due by these clocks (lane -> ms since 1970)."""
        for lane, clock in clocks.items():
            self._fire(lane, clock, outcome)

    def next_due(self) -> dict[str, int]:
        """The earliest due time of each lane that has one; it may turn out to be stale."""
        return self.timers.earliest()

    def _follow(self, judgement: Judgement, outcome: Outcome) -> None:
        outcome.alerts += judgement.alerts
        self._store(judgement.call, outcome)

    def _store(self, call: Conversation, outcome: Outcome) -> None:
        self.calls[call.call_id] = outcome.changed[call.call_id] = call
        self.census.note(call, open_count(call.episodes))
        self._schedule(call)

    def _schedule(self, call: Timing) -> None:
        self.timers.put(call.lane, call.call_id, call.due(self.limits))

    def _fire(self, lane: str, clock: int, outcome: Outcome) -> None:
        judged_to = self.lanes.get(lane, NOWHERE).offset
        for call_id in self.timers.due(lane, clock):
            call = self.calls.get(call_id)
            if call is None or call.lane != lane or call.positions.get(lane, -1) > judged_to:
                continue  # gone, moved to another lane, or stored before a crash ahead of the log that is now read again
            call = self._taken(call, outcome)
            if call.due(self.limits) > clock:
                self._schedule(call)
            elif call.rules_due is not None and call.rules_due < call.closes(self.limits):
                self._follow(due(call, self.rules), outcome)
            else:
                self._close(call, call.closes(self.limits), outcome)

    def _close(self, call: Conversation, at: int, outcome: Outcome) -> None:
        """What is over becomes a marker, a marker goes."""
        if call.status == "closed":
            del self.calls[call.call_id]
            outcome.changed[call.call_id] = None
            return
        judgement = resolve_all(call, call.at_ms)
        outcome.alerts += judgement.alerts
        outcome.summaries.append(summarise(judgement.call))
        self._store(closed(call, at), outcome)


def judged(scored: Iterable[Scored], limits: Limits, rules: RuleSet | None = None) -> Outcome:
    """All that judging these segments gives, in their order, every call closed at the end: what a worker must have
    published once it has read them and every due time has passed."""
    calls, outcome = Calls(limits, partitions=1, rules=rules), Outcome()
    for segment in scored:
        calls.judge(segment, outcome)
    calls.tick(dict.fromkeys(calls.timers, 1 << 62), outcome)
    return outcome
