"""What is counted and timed: one of each a worker, written by its agents batch by batch. Pure: times are passed in.

`exposition` writes it for Prometheus, from a `Scrape`: all that there is at a moment, as the worker puts it together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.histogram import Histogram
from streams.census import Queues
from streams.outcome import Outcome
from streams.records import Label, Reason, Segment
from streams.rules import RuleSet

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets of times: two or three a decade, from what a batch takes to what nobody waits for."""
Stage = Literal["consumed", "scored", "published", "judged"]
SCORER: tuple[Stage, ...] = ("consumed", "scored", "published")
JUDGE: tuple[Stage, ...] = ("judged",)


@dataclass(slots=True)
class Counts:
    """Since the worker's start. `cached`: scores that were remembered, of the same text; `batches` and `tokens`: what the model
    did for the others; `mis_keyed`: inputs whose key was not their call's, set right on the way; `lost`: records that
    retention had deleted before they were read."""

    received: int = 0
    scored: int = 0
    skipped: int = 0
    cached: int = 0
    batches: int = 0
    tokens: int = 0
    rejected: int = 0
    mis_keyed: int = 0
    judged: int = 0
    repeats: int = 0
    alerts: int = 0
    summaries: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, name):,} {name.replace('_', '-')}" for name in self.__slots__ if getattr(self, name))


@dataclass(slots=True)
class Metrics:
    """Since the worker's start, what `Counts` has in one number told apart, and how long it took (seconds).

    `rejected` by agent and reason, `alerts` by rule, severity and event, `turns` by queue and label, `sent` by topic;
    `spoken_ms` of final segments. Nothing here is by call.
    """

    queues: Queues = field(default_factory=Queues)
    stages: dict[Stage, Histogram] = field(default_factory=lambda: {stage: Histogram(SECONDS) for stage in SCORER + JUDGE})
    alert_delay: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    rejected: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    alerts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    turns: Counter[tuple[str, Label]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    spoken_ms: int = 0

    def published(self, segments: int, taken_at: float, scored_at: float, now: float) -> None:
        """So many segments were scored together and are delivered now."""
        self.stages["scored"].observe(scored_at - taken_at, segments)
        self.stages["published"].observe(now - scored_at, segments)

    def judged(self, outcome: Outcome, now: float) -> None:
        """The effects of judging some records are delivered now."""
        self.stages["judged"].observe_all([now - at.timestamp() for at in outcome.scored_at])
        self.alert_delay.observe_all([now - at / 1000 for at in outcome.raised_at])
        self.rejected.update([("judge", reason) for reason in outcome.rejected])
        self.alerts.update([(alert.rule.name, alert.severity, alert.event) for alert in outcome.alerts])
        self.turns.update(outcome.turns)


def spoken_ms(segment: Segment) -> int:
    """How long a final segment lasts; 0 where it does not say, and for what is no segment."""
    if segment.type != "segment" or not segment.final:
        return 0
    if segment.start_ms is not None and segment.end_ms is not None:
        return segment.end_ms - segment.start_ms
    if segment.start_at is not None and segment.end_at is not None:
        return round((segment.end_at - segment.start_at).total_seconds() * 1000)
    return 0


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent at a moment: how many events wait for it, how many it has taken, for how long (seconds) it has stood still
    with work to do, how long each batch took, and the records that lie behind it by topic and partition, as last looked at."""

    role: str
    group: str
    topic: str
    waiting: int
    taken: int
    still_s: float
    batches: Histogram
    lags: Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Computing:
    """The model at a moment: what it takes of `device` (None: not told), how long (seconds) it has computed, and the sizes of
    its batches."""

    name: str
    revision: str
    precision: str
    device: str
    memory_bytes: int | None
    utilization: float | None
    seconds: float
    batch_texts: Histogram
    batch_tokens: Histogram


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge at a moment: live calls and open alerts by queue, the rules in force, whether newer ones are refused."""

    live: Mapping[str, int]
    open: Mapping[str, int]
    rules: RuleSet
    refused: bool


@dataclass(frozen=True, slots=True)
class Scrape:
    """All that is exposed; `scorer` and `judge` are None where this worker has none."""

    version: str
    counts: Counts
    metrics: Metrics
    agents: Sequence[Agent]
    scorer: Computing | None = None
    judge: Judge | None = None
