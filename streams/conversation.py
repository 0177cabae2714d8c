"""The state of one call: what is kept between two segments, and how a segment changes it. Pure.

`advance(before, scored)` gives the state after a scored segment. The state is bounded however long the call: ids as hashes,
a few recent turns, a timeline whose bins widen. Its due time says when something happens although nothing arrives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Literal

from streams.episodes import Episode, Watches
from streams.records import LONGEST_MS, AtSource, Evidence, Label, Scalar, Scored
from streams.turns import Turn, order

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY_MS = 24 * 3600 * 1000
REPEATS = 64  # segments over which a repeat is known
RECENT = 5  # scored customer turns kept with their text, for evidence
TURNS = 64  # turns of all speakers kept for windows, and no longer than this
WINDOW_MS = 600_000
QUOTE = 160  # characters kept of a turn's text
BINS = 64
MAX_ATTRIBUTES = 1_000  # bytes (UTF-8) of a call's attributes, names and values
ALPHA = 0.3
"""Weight of the newest turn in the exponentially weighted score, s' = (1 - a) s + a x, from 0 (neutral) at the start."""

CUSTOMER_SIDE = ("customer", "unknown")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a call is over, in ms: the grace after its end event, the silence by channel, how long its marker stays."""

    grace_ms: int = 60_000
    voice_silence_ms: int = 15 * 60_000
    chat_silence_ms: int = DAY_MS
    closed_ms: int = DAY_MS


@dataclass(frozen=True, slots=True)
class Timeline:
    """Labels of one speaker's turns by time: bin i counts [negative, neutral, positive] turns that end in
    [i, i + 1) x `width_ms`. A call that outgrows the bins doubles their width, so a turn is placed to 1/32 of the call."""

    width_ms: int = 1_000
    bins: tuple[tuple[int, int, int], ...] = ()

    def add(self, end_ms: int, label: Label) -> "Timeline":
        width, bins = self.width_ms, list(self.bins)
        while end_ms // width >= BINS:
            bins = [_sum(bins[i : i + 2]) for i in range(0, len(bins), 2)]
            width *= 2
        at = end_ms // width
        bins += [(0, 0, 0)] * (at + 1 - len(bins))
        negative, neutral, positive = bins[at]
        bins[at] = (negative + (label == "negative"), neutral + (label == "neutral"), positive + (label == "positive"))
        return Timeline(width, tuple(bins))

    def score(self, begin_ms: float, end_ms: float, last: bool) -> float | None:
        """5 x (positive - negative) / turns over the bins whose middle lies in [begin, end); None without a turn."""
        middles = ((i + 0.5) * self.width_ms for i in range(len(self.bins)))
        inside = [b for b, m in zip(self.bins, middles, strict=True) if begin_ms <= m and (m < end_ms or last)]
        negative, neutral, positive = _sum(inside)
        turns = negative + neutral + positive
        return round(5 * (positive - negative) / turns, 2) if turns else None


def _sum(bins: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    return sum(b[0] for b in bins), sum(b[1] for b in bins), sum(b[2] for b in bins)


@dataclass(frozen=True, slots=True)
class Voice:
    """One speaker's side of the call. `segments` counts final utterances; the rest counts those that were scored."""

    segments: int = 0
    negative: int = 0
    neutral: int = 0
    positive: int = 0
    total: float = 0.0
    ewma: float = 0.0
    streak_label: Label | None = None
    streak: int = 0
    talk_ms: int = 0
    end_ms: int = 0
    timeline: Timeline = Timeline()

    @property
    def scored(self) -> int:
        return self.negative + self.neutral + self.positive

    @property
    def mean(self) -> float:
        """Mean score in [-1, 1]; 0 before the first scored turn."""
        return self.total / self.scored if self.scored else 0.0


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source partition has been judged: the last offset, and the clock (highest timestamp, ms since 1970)."""

    offset: int
    clock: int


@dataclass(frozen=True, slots=True)
class Positions:
    """A judged partition's positions by source partition, and the number of partitions they were written with."""

    partitions: int
    lanes: Mapping[str, Position] = field(default_factory=dict)
    schema: str = "callpulse.positions.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What says when a call is due: all of its state that is read before something touches it. `clock` is the highest record
    timestamp seen of it; `lane` the source partition of its last record, whose clock its due time waits for; `rules_due` when
    (ms since 1970) the rules want to look again although nothing has arrived."""

    call_id: str
    clock: int
    lane: str
    status: Literal["live", "ending", "closed"] = "live"
    channel: str = "voice"
    ended_clock: int | None = None
    rules_due: int | None = None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation(Timing):
    """One call. `origin_ms` is its start (ms since 1970); `positions` the last offset of each lane it contains; `at_ms` the end
    of what was said so far."""

    origin_ms: int
    origin: AtSource
    positions: Mapping[str, int]
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    reason: str | None = None
    at_ms: int = 0
    silence_ms: int = 0
    overlap_ms: int = 0
    seen: tuple[str, ...] = ()
    voices: Mapping[str, Voice] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    revisions: tuple[str, ...] = ()
    recent: tuple[Evidence, ...] = ()
    episodes: tuple[Episode, ...] = ()
    watches: Watches = Watches()
    schema: str = "callpulse.state.v1"

    @property
    def customer(self) -> Voice:
        """The customer's side; where no customer was scored, everybody unknown who was."""
        sides = [self.voices.get(name, Voice()) for name in CUSTOMER_SIDE]
        return next((voice for voice in sides if voice.scored), sides[0])

    def at(self, at_ms: int) -> datetime:
        """The absolute time of an offset from the call's start; the nearest that a datetime can say."""
        return EPOCH + timedelta(milliseconds=max(_FIRST_MS, min(_LAST_MS, self.origin_ms + at_ms)))


def epoch_ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


_FIRST_MS, _LAST_MS = (epoch_ms(at.replace(tzinfo=timezone.utc)) for at in (datetime.min, datetime.max))


def advance(before: Conversation | None, scored: Scored) -> Conversation:
    """The call after one more scored segment or event. A repeat changes nothing but the position; a partial only says that
    the call lives."""
    call = _touched(before or _opened(scored), scored)
    said = scored.type == "segment" and scored.final
    if said and (seen := _hash(scored.segment_id or "")) in call.seen:
        return call
    call = _informed(call, scored)
    if scored.type == "end" and call.status == "live":
        return replace(call, status="ending", ended_clock=scored.source.timestamp, reason=scored.reason)
    return _heard(replace(call, seen=(*call.seen, seen)[-REPEATS:]), scored) if said else call


def _hash(segment_id: str) -> str:
    """48 bits: of a call's ids two look alike once in 10^10 calls."""
    return hashlib.blake2b(segment_id.encode(), digest_size=6).hexdigest()


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
        call_id=scored.call_id, clock=timestamp, lane=scored.source.lane, origin_ms=origin_ms, origin=origin, positions={}
    )


def _touched(call: Conversation, scored: Scored) -> Conversation:
    source, positions = scored.source, {**call.positions, scored.source.lane: scored.source.offset}
    return replace(call, clock=max(call.clock, source.timestamp), lane=source.lane, positions=positions)


def _informed(call: Conversation, scored: Scored) -> Conversation:
    """Takes over what the telephone system knows: start, channel, attributes (null deletes)."""
    if scored.started_at is not None:
        call = replace(call, origin_ms=epoch_ms(scored.started_at), origin="call")
    if scored.channel is not None:
        call = replace(call, channel=scored.channel)
    if scored.attributes:
        call = replace(call, attributes=_merged(call.attributes, scored.attributes))
    return call


def _merged(known: Mapping[str, Scalar], news: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The last value wins, null deletes; what was set longest ago goes first when there are too many."""
    both = {k: v for k, v in known.items() if k not in news} | {k: v for k, v in news.items() if v is not None}
    sizes = {k: attribute_size(k, v) for k, v in both.items()}
    while sum(sizes.values()) > MAX_ATTRIBUTES:
        oldest = next(iter(sizes))
        del sizes[oldest], both[oldest]
    return both


def attribute_size(name: str, value: Scalar) -> int:
    """In bytes, as MAX_ATTRIBUTES counts."""
    return len(f"{name}{value}".encode())


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


def _heard(call: Conversation, scored: Scored) -> Conversation:
    start, end = _span(call, scored)
    voice = _spoken(call.voices.get(scored.speaker, Voice()), scored, start, end)
    said_until = call.at_ms if call.voices else start  # what comes before the first word is ringing, not silence
    call = replace(
        call,
        at_ms=max(said_until, end),
        silence_ms=call.silence_ms + max(0, start - said_until),
        overlap_ms=call.overlap_ms + max(0, min(end, said_until) - start),
        voices={**call.voices, scored.speaker: voice},
    )
    call = _kept(call, scored, start, end)
    if scored.sentiment is None or scored.speaker not in CUSTOMER_SIDE:
        return call
    sentiment = scored.sentiment
    text = scored.text if len(scored.text) <= QUOTE else scored.text[: QUOTE - 1] + "…"
    turn = Evidence(scored.segment_id or "", scored.speaker, start, end, sentiment.score, sentiment.label, text)
    return replace(call, recent=(*call.recent, turn)[-RECENT:])


def _kept(call: Conversation, scored: Scored, start: int, end: int) -> Conversation:
    revision, revisions = f"{scored.model.name}@{scored.model.revision}", call.revisions
    if scored.sentiment and revision not in revisions:
        revisions = (*revisions, revision)
    score, label = (scored.sentiment.score, scored.sentiment.label) if scored.sentiment else (None, None)
    index = revisions.index(revision) if scored.sentiment else -1
    words = len(scored.text.split())
    turn = Turn(_hash(scored.segment_id or ""), scored.speaker, start, end, score, label, words, index)
    turns = sorted((*call.turns, turn), key=order)[-TURNS:]
    return replace(call, turns=tuple(t for t in turns if t.end_ms >= call.at_ms - WINDOW_MS), revisions=revisions)


def _spoken(voice: Voice, scored: Scored, start: int, end: int) -> Voice:
    voice = replace(voice, segments=voice.segments + 1, talk_ms=voice.talk_ms + end - start, end_ms=max(voice.end_ms, end))
    if scored.sentiment is None:
        return voice
    label, score = scored.sentiment.label, scored.sentiment.score
    return replace(
        voice,
        negative=voice.negative + (label == "negative"),
        neutral=voice.neutral + (label == "neutral"),
        positive=voice.positive + (label == "positive"),
        total=voice.total + score,
        ewma=(1 - ALPHA) * voice.ewma + ALPHA * score,
        streak_label=label,
        streak=voice.streak + 1 if label == voice.streak_label else 1,
        timeline=voice.timeline.add(end, label),
    )
