"""The state of one call: what is kept between two segments, and how a segment changes it. Pure.

`advance(before, scored)` gives the state after a scored segment. The state is bounded however long the call: ids as hashes,
a few recent turns, a timeline whose bins widen. Its due time says when something happens although nothing arrives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from streams.attributes import merged
from streams.course import SILENT, Course, Voice
from streams.episodes import UNWATCHED, Episode, Watches
from streams.kept import Turns, known
from streams.late import NONE, Line
from streams.quotes import CUSTOMER_SIDE, quoted
from streams.records import LONGEST_MS, AtSource, Evidence, Scalar, Scored
from streams.timeline import Timeline, timed
from streams.turns import hashed, heard

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY_MS = 24 * 3600 * 1000
REPEATS = 64  # segments over which a repeat is known
KNOWN = 4  # segments known beyond the turns that are kept, at least


@dataclass(frozen=True, slots=True)
class Limits:
    """When a call is over, in ms: the grace after its end event, the silence by channel, how long its marker stays."""

    grace_ms: int = 60_000
    voice_silence_ms: int = 15 * 60_000
    chat_silence_ms: int = DAY_MS
    closed_ms: int = DAY_MS


class Position(Struct, frozen=True):
    """How far a source partition has been judged: the last offset, and the clock (highest timestamp, ms since 1970)."""

    offset: int
    clock: int


class Positions(Struct, frozen=True):
    """A judged partition's positions by source partition, and the number of partitions they were written with."""

    partitions: int
    lanes: Mapping[str, Position] = field(default_factory=dict)
    schema: str = "callpulse.positions.v1"


class Timing(Struct, frozen=True, kw_only=True):
    """What says when a call is due: all of its state that is read before something touches it. `clock` is the highest record
    timestamp seen of it; `lane` the source partition of its last record, whose clock its due time waits for; `rules_due` when
    (ms since 1970) the rules want to look again although nothing has arrived; `rules` the hash of those that judged it last."""

    call_id: str
    clock: int
    lane: str
    status: Literal["live", "ending", "closed"] = "live"
    channel: str = "voice"
    ended_clock: int | None = None
    rules_due: int | None = None
    rules: str | None = None

    def due(self, limits: Limits) -> int:
        """When (ms since 1970) something happens to the call if nothing more arrives."""
        closes = self.closes(limits)
        return closes if self.rules_due is None else min(closes, self.rules_due)

    def closes(self, limits: Limits) -> int:
        """When (ms since 1970) the call closes if nothing more arrives; for a closed one, when its marker goes."""
        if self.status == "closed":
            return self.clock + limits.closed_ms
        if self.ended_clock is not None:
            return self.ended_clock + limits.grace_ms
        return self.clock + (limits.chat_silence_ms if self.channel == "chat" else limits.voice_silence_ms)


class Conversation(Timing, frozen=True, kw_only=True):
    """One call. `origin_ms` is its start (ms since 1970); `positions` the last offset of each lane it contains; `at_ms` the end
    of what was said so far. `turns` are the last ones, in order; `course` what all turns add up to, `settled` without the last
    `unsettled` of them. `seen` are the hashes of turns that are known and no longer kept. `timelines` by speaker.
    `guessed`: the start is the earliest time that a segment gave, since nothing said when the call began."""

    origin_ms: int
    origin: AtSource
    positions: Mapping[str, int]
    guessed: bool = False
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    reason: str | None = None
    at_ms: int = 0
    seen: tuple[str, ...] = ()
    turns: Turns = NONE
    unsettled: int = 0
    settled: Course = SILENT
    course: Course = SILENT
    timelines: Mapping[str, Timeline] = field(default_factory=dict)
    revisions: tuple[str, ...] = ()
    recent: tuple[Evidence, ...] = ()
    episodes: tuple[Episode, ...] = ()
    watches: Watches = UNWATCHED
    schema: str = "callpulse.state.v1"

    @property
    def voices(self) -> Mapping[str, Voice]:
        """Who has spoken, by speaker."""
        return self.course.voices

    @property
    def silence_ms(self) -> int:
        """Time in which nobody spoke; what comes before the first word is ringing, not silence."""
        return self.course.talk.gaps_ms

    @property
    def overlap_ms(self) -> int:
        return self.course.overlap_ms

    @property
    def customer(self) -> Voice:
        """The customer's side; where no customer was scored, everybody unknown who was."""
        sides = [self.voices.get(name, Voice()) for name in CUSTOMER_SIDE]
        return next((voice for voice in sides if voice.scored), sides[0])

    def at(self, at_ms: int) -> datetime:
        """The absolute time of an offset from the call's start; the nearest that a datetime can say."""
        return EPOCH + timedelta(milliseconds=max(_FIRST_MS, min(_LAST_MS, self.origin_ms + at_ms)))


def closed(call: Conversation, clock: int) -> Conversation:
    """The marker of a call that is over: it says so, and how far it was judged."""
    return Conversation(
        call_id=call.call_id,
        clock=clock,
        lane=call.lane,
        status="closed",
        channel=call.channel,
        ended_clock=call.ended_clock,
        origin_ms=call.origin_ms,
        origin=call.origin,
        positions=call.positions,
        reason=call.reason,
        at_ms=call.at_ms,
    )


def epoch_ms(at: datetime) -> int:
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000  # a division takes five times as long


def read_ms(text: str) -> int:
    """Milliseconds since 1970 (0 before) of an RFC 3339 time. Raises ValueError, or TypeError for a time without a zone."""
    return max(0, epoch_ms(datetime.fromisoformat(text.replace("Z", "+00:00"))))


_FIRST_MS, _LAST_MS = (epoch_ms(at.replace(tzinfo=timezone.utc)) for at in (datetime.min, datetime.max))


def advance(before: Conversation | None, scored: Scored) -> Conversation:
    """The call after one more scored segment or event. A repeat changes nothing but the position; a partial only says that
    the call lives."""
    call = before or _opened(scored)
    said = scored.type == "segment" and scored.final
    segment = hashed(scored.segment_id or "") if said else ""
    if said and (segment in call.seen or call.turns.has(segment)):
        return _touched(call, scored)
    call = _informed(call, scored)
    if said:
        return _heard(call, scored, segment)
    call = _touched(call, scored)
    if scored.type == "end" and call.status == "live":
        return replace(call, status="ending", ended_clock=scored.source.timestamp, reason=scored.reason)
    return call


def _opened(scored: Scored) -> Conversation:
    timestamp = scored.source.timestamp
    if scored.started_at is not None:
        origin_ms = epoch_ms(scored.started_at)
    elif scored.start_at is not None:
        origin_ms = epoch_ms(scored.start_at) - (scored.start_ms or 0)
    elif scored.end_at is not None:
        origin_ms = epoch_ms(scored.end_at) - (scored.end_ms or 0)
    else:
        origin_ms = timestamp - (scored.end_ms or scored.start_ms or 0)
    origin: AtSource = "call" if scored.started_at or scored.start_at or scored.end_at else "record"
    return Conversation(
        call_id=scored.call_id,
        clock=timestamp,
        lane=scored.source.lane,
        origin_ms=origin_ms,
        origin=origin,
        positions={},
        guessed=origin == "call" and scored.started_at is None and scored.start_ms is None and scored.end_ms is None,
    )


def _touched(call: Conversation, scored: Scored) -> Conversation:
    clock, lane, positions = _place(call, scored)
    return replace(call, clock=clock, lane=lane, positions=positions)


def _place(call: Conversation, scored: Scored) -> tuple[int, str, Mapping[str, int]]:
    """Clock, lane and positions of the call with this record."""
    source = scored.source
    return max(call.clock, source.timestamp), source.lane, {**call.positions, source.lane: source.offset}


def _informed(call: Conversation, scored: Scored) -> Conversation:
    """Takes over what the telephone system knows: start, channel, attributes (null deletes)."""
    if scored.started_at is not None:
        begun = _begun(call, epoch_ms(scored.started_at))
        call = call if begun is call else replace(begun, origin="call", guessed=False)
    if scored.channel is not None:
        call = replace(call, channel=scored.channel)
    if scored.attributes:
        call = replace(call, attributes=merged(call.attributes, scored.attributes))
    return call


def _begun(call: Conversation, origin_ms: int) -> Conversation:
    """The call with another start. Where turns were placed by a start that was guessed too late, they move; where that would
    take them beyond what a call can last, the start is wrong and the call stays as it is."""
    by_ms = call.origin_ms - origin_ms
    if not call.guessed or by_ms <= 0 or not call.turns or _gone(call):
        return replace(call, origin_ms=origin_ms)
    if call.at_ms + by_ms > LONGEST_MS:
        return call
    line = Line(call.turns, call.unsettled, call.settled, call.course).moved(by_ms)
    timelines: Mapping[str, Timeline] = {}
    for turn in line.turns:
        timelines = timed(timelines, turn)
    recent = tuple(replace(e, start_ms=e.start_ms + by_ms, end_ms=e.end_ms + by_ms) for e in call.recent)
    return replace(
        call,
        origin_ms=origin_ms,
        at_ms=call.at_ms + by_ms,
        turns=line.turns,
        settled=line.settled,
        course=line.now,
        timelines=timelines,
        recent=recent,
        episodes=tuple(episode.moved(by_ms) for episode in call.episodes),
        watches=call.watches.moved(by_ms),
    )


def _gone(call: Conversation) -> bool:
    """Whether turns of it are no longer kept."""
    return len(call.turns) < sum(voice.segments for voice in call.voices.values())


def _span(call: Conversation, scored: Scored) -> tuple[int, int]:
    """Start and end of the segment as offsets: given, from absolute times, or from the record's timestamp."""

    def offset(ms: int | None, at: datetime | None) -> int | None:
        return ms if ms is not None or at is None else since_origin(epoch_ms(at))

    def since_origin(absolute_ms: int) -> int:
        return max(0, min(LONGEST_MS, absolute_ms - call.origin_ms))

    start, end = offset(scored.start_ms, scored.start_at), offset(scored.end_ms, scored.end_at)
    if start is None:
        start = end if end is not None else since_origin(scored.source.timestamp)
    return start, max(start, end if end is not None else start)


def _heard(call: Conversation, scored: Scored, segment: str) -> Conversation:
    given = scored.start_at or scored.end_at
    if call.guessed and given is not None and epoch_ms(given) < call.origin_ms and not _gone(call):
        call = _begun(call, epoch_ms(given))
    start, end = _span(call, scored)
    at_ms = max(call.at_ms, end)
    revisions, revision = known(call.revisions, scored, call.turns)
    turn = heard(scored, segment, start, end, revision)
    line = Line(call.turns, call.unsettled, call.settled, call.course).take(turn, at_ms)
    clock, lane, positions = _place(call, scored)
    return replace(  # once, for all that changes: it takes a quarter of the time
        call,
        clock=clock,
        lane=lane,
        positions=positions,
        at_ms=at_ms,
        # so that REPEATS are known with those that are kept
        seen=(*call.seen, *line.gone.segments())[-max(KNOWN, REPEATS - len(line.turns)) :],
        turns=line.turns,
        unsettled=line.unsettled,
        settled=line.settled,
        course=line.now,
        timelines=timed(call.timelines, turn),
        revisions=revisions,
        recent=quoted(call.recent, scored, turn),
    )
