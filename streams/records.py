"""The messages of the contract, version 1, as values. `wire` turns them into bytes and back.

Offsets (`*_ms`) are milliseconds from the call's start; `timestamp`s are milliseconds since 1970 (UTC), as Kafka keeps them.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Speaker = Literal["customer", "agent", "bot", "system", "unknown"]
MessageType = Literal["segment", "start", "update", "end"]
Label = Literal["negative", "neutral", "positive"]
Skipped = Literal["speaker", "partial", "empty", "event"]
Severity = Literal["info", "warning", "critical"]
AlertEvent = Literal["open", "update", "escalate", "acknowledge", "resolve"]
AlertStatus = Literal["open", "acknowledged", "resolved"]
AtSource = Literal["call", "record"]
Band = Literal["worsening", "steady", "improving"]
Scalar = str | int | float | bool | None

# What is read from a topic is held to these, so that no arithmetic on it can overflow.
LONGEST_MS = 366 * 24 * 3600 * 1000
"""No call is longer; a bigger offset is a wrong unit (milliseconds since 1970, say)."""
MAX_WHOLE = (1 << 53) - 1  # beyond it a double, and so most JSON readers, cannot tell neighbours apart
Time = Annotated[datetime, Meta(tz=True)]
OffsetMs = Annotated[int, Meta(ge=0, le=LONGEST_MS)]
Whole = Annotated[int, Meta(ge=-MAX_WHOLE, le=MAX_WHOLE)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Score = Annotated[float, Meta(ge=-1, le=1)]

Reason = Literal[
    "tombstone",
    "too_large",
    "schema_registry",
    "not_utf8",
    "not_json",
    "too_deep",
    "missing_field",
    "wrong_type",
    "empty_call_id",
    "too_long",
    "end_before_start",
    "scoring_failed",
    "call_ended",
    "skipped",
]

SPEAKERS: tuple[Speaker, ...] = ("customer", "agent", "bot", "system", "unknown")
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""From the mildest to the gravest."""


class Record(Struct, frozen=True):
    """A Kafka record as it was read, nothing decoded. `timestamp` in ms since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def place(self) -> str:
        """TOPIC:PARTITION:OFFSET, as --skip takes it and rejections are listed."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def where(self) -> dict[str, object]:
        """The same for a log line, beside its message."""
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}


class Rejected(Struct, frozen=True):
    """Why an input cannot be used. `detail` is for a person: it names the field and never quotes what a caller said."""

    reason: Reason
    detail: str


class Segment(Struct, frozen=True, kw_only=True):
    """One input message: an utterance (`type` "segment") or what the telephone system knows (start, update, end)."""

    call_id: str
    type: MessageType = "segment"
    segment_id: str | None = None
    speaker: Speaker = "unknown"
    participant_id: str | None = None
    text: str = ""
    start_ms: OffsetMs | None = None
    end_ms: OffsetMs | None = None
    start_at: Time | None = None
    end_at: Time | None = None
    final: bool = True
    language: str | None = None
    started_at: Time | None = None
    channel: str | None = None
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    reason: str | None = None


class Sentiment(Struct, frozen=True):
    """`score` = P(positive) - P(negative), in [-1, 1]; the three probabilities add up to 1 (five decimals)."""

    label: Label
    score: Score
    negative: Probability
    neutral: Probability
    positive: Probability


class Model(Struct, frozen=True):
    """Which model scored, so that scores of two revisions are never compared unawares."""

    name: str
    revision: str
    precision: str


@lru_cache(maxsize=1 << 12)
def _lane(topic_id: str, partition: int) -> str:
    """One string for all calls of a source partition: their states have it among their positions."""
    return f"{topic_id}:{partition}"


class Source(Struct, frozen=True):
    """The place in calls.segments that a scored segment came from."""

    topic_id: str
    partition: Whole
    offset: Whole
    timestamp: Whole

    @property
    def lane(self) -> str:
        """The source partition's name in the positions: a recreated topic has another id and starts afresh."""
        return _lane(self.topic_id, self.partition)


class Scored(Segment, frozen=True, kw_only=True):
    """A valid input with its sentiment; `sentiment` is None when it was not scored, and `skipped` says why."""

    source: Source
    scored_at: Time
    model: Model
    sentiment: Sentiment | None = None
    skipped: Skipped | None = None
    truncated: bool = False
    schema: str = "callpulse.sentiment.v1"


class Evidence(Struct, frozen=True):
    """A scored turn that an alert points to. `text` is cut at 160 characters."""

    segment_id: str
    speaker: Speaker
    start_ms: int
    end_ms: int
    score: float
    label: Label
    text: str


class RuleRef(Struct, frozen=True):
    name: str
    version: int


class Alert(Struct, frozen=True, kw_only=True):
    """One event in the life of an episode, which `alert_id` names; `sequence` counts its events from 1."""

    alert_id: str
    sequence: int
    event: AlertEvent
    status: AlertStatus
    rule: RuleRef
    severity: Severity
    call_id: str
    at_ms: int
    at: Time
    at_source: AtSource
    reason: str
    evidence: tuple[Evidence, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    call_url: str | None = None
    schema: str = "callpulse.alert.v1"


class Quarter(Struct, frozen=True):
    """A quarter of one speaker's time on the call; `score` in -5..5, None when no turn was scored in it."""

    begin_ms: int
    end_ms: int
    score: float | None


class SpeakerSummary(Struct, frozen=True, kw_only=True):
    """One speaker over the whole call. `score` and `trend` (last filled quarter less the first) are on the -5..5 scale;
    `measures` are those of streams.measures by name, `direction` says where the last turns went."""

    segments: int
    negative: int
    neutral: int
    positive: int
    score: float | None
    trend: float | None
    quarters: tuple[Quarter, ...]
    talk_ms: int
    measures: Mapping[str, float] = field(default_factory=dict)
    direction: Band | None = None


class RaisedAlert(Struct, frozen=True):
    alert_id: str
    rule: str
    severity: Severity
    at_ms: int


class Summary(Struct, frozen=True, kw_only=True):
    """A call that is over: `ended_by` its end event or a silence; `reason` is the end event's own word; `measures` are those
    of the call as a whole by name."""

    call_id: str
    channel: str
    started_at: Time
    ended_at: Time
    at_source: AtSource
    ended_by: Literal["end", "silence"]
    reason: str | None
    duration_ms: int
    speakers: Mapping[str, SpeakerSummary]
    silence_ms: int
    overlap_ms: int
    alerts: tuple[RaisedAlert, ...]
    attributes: Mapping[str, Scalar]
    measures: Mapping[str, float] = field(default_factory=dict)
    schema: str = "callpulse.summary.v1"
