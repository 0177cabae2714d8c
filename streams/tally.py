"""What a demo sent against what lies in the topics: counts, delays, and what a killed worker lost or doubled. Pure.

Everything is known by its place in calls.segments, so that a repeat counts once; what was repeated is counted beside it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from streams.conversation import Limits
from streams.pipeline import judged
from streams.records import Alert, Record, Rejected, Scored, Segment, Summary
from streams.rules import RuleSet
from streams.wire import cloud_event, decode, decode_alert, decode_scored, decode_summary

TOPICS = ("sentiment", "alerts", "summaries", "rejected")
"""What has to be read."""

KILLED = ("lost", "scored_twice", "alerts_twice", "alerts_missing", "alerts_extra")

Place = tuple[int, int]
Turn = tuple[str, str | None]
"""A call and a segment of it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The counts at the end. `alerts` are distinct events; `p50_ms` and `p99_ms` are from handing a segment to the producer
    until `scored_at`, None where nothing was scored; `seconds` are from the first message until all was accounted for,
    `first_alert_s` until the first alert was read, None where none came.

    `lost` messages came to neither calls.sentiment nor calls.rejected; `scored_twice` and `alerts_twice` are the repeats on
    the topics, which readers know by place and id; `alerts_missing` and `alerts_extra` are against one undisturbed pass.
    """

    segments: int
    scored: int
    skipped: int
    rejected: int
    alerts: int
    calls: int
    p50_ms: float | None
    p99_ms: float | None
    seconds: float
    lost: int
    scored_twice: int
    alerts_twice: int
    alerts_missing: int
    alerts_extra: int
    first_alert_s: float | None

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.alerts_missing or self.alerts_extra)

    def summary(self, killed: bool) -> dict[str, Any]:
        """As one JSON object; what a kill did only where there was one."""
        hidden = {"first_alert_s"} if killed else {"first_alert_s", *KILLED}
        return {name: value for name, value in asdict(self).items() if name not in hidden}


@dataclass(slots=True)
class Tally:
    """Counts as it reads. `first_sent_s` and `first_alert_s` are on the wall's clock."""

    sent: int = 0
    keys: set[bytes | None] = field(default_factory=set)
    sent_s: dict[Turn, float] = field(default_factory=dict)
    first_sent_s: float | None = None
    first_alert_s: float | None = None
    log: list[tuple[int, Scored]] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)
    rejected: set[Place] = field(default_factory=set)
    copies: Counter[tuple[Turn, bool]] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    over: set[str] = field(default_factory=set)

    def handed(self, record: Record, wall_s: float) -> None:
        """A message was handed to the producer."""
        self.sent += 1
        self.keys.add(record.key)
        self.first_sent_s = wall_s if self.first_sent_s is None else self.first_sent_s
        segment = decode(record.value)
        if isinstance(segment, Segment):
            self.sent_s.setdefault((segment.call_id, segment.segment_id), wall_s)

    def read(self, name: str, record: Record, wall_s: float) -> Scored | Alert | Summary | None:
        """Takes in a record of one of TOPICS; returns what is to be shown of it."""
        value, headers = record.value or b"", dict(record.headers)
        if name == "sentiment":
            return self._score(record)
        if name == "summaries":
            summary = decode_summary(value)
            self.over.add(summary.call_id)
            return summary
        if name == "alerts":
            self.alerts[(headers.get("ce_id") or b"").decode()] += 1
            self.first_alert_s = wall_s if self.first_alert_s is None else self.first_alert_s
            return decode_alert(value)
        self._reject(headers)
        return None

    def _reject(self, headers: dict[str, bytes | None]) -> None:
        """What the judge rejects is on calls.sentiment, too, and counted there."""
        if headers.get("callpulse-stage") == b"score":
            self.rejected.add((int(headers["callpulse-partition"] or 0), int(headers["callpulse-offset"] or 0)))

    def _score(self, record: Record) -> Scored | None:
        scored = decode_scored(record.value)
        if isinstance(scored, Rejected):
            return None
        if scored.sentiment is not None:
            self.copies[(scored.call_id, scored.segment_id), scored.final] += 1
        place = (scored.source.partition, scored.source.offset)
        if place in self.places:
            return None
        self.places.add(place)
        self.log.append((record.partition, scored))
        return scored

    @property
    def accounted(self) -> int:
        return len(self.places | self.rejected)

    @property
    def complete(self) -> bool:
        """Whether every message and the end of every call has come of what was handed over so far."""
        return self.accounted >= self.sent and len(self.over) >= len(self.keys - {None})

    def report(self, limits: Limits, ended_s: float, rules: RuleSet | None = None) -> Report:
        """The counts, judged once more under these limits and rules; `ended_s` is on the wall's clock."""
        scored = [s for _, s in self.log if s.sentiment is not None]
        delays = sorted(delay for s in scored if (delay := self._delay_ms(s)) is not None)
        expected = self._expected(limits, rules)
        return Report(
            segments=self.sent,
            scored=len(scored),
            skipped=len(self.log) - len(scored),
            rejected=len(self.rejected),
            alerts=len(self.alerts),
            calls=len(self.over),
            p50_ms=percentile(delays, 0.50),
            p99_ms=percentile(delays, 0.99),
            seconds=self._since_start(ended_s),
            lost=self.sent - self.accounted,
            scored_twice=self.copies.total() - len(self.copies),
            alerts_twice=self.alerts.total() - len(self.alerts),
            alerts_missing=len(expected - self.alerts.keys()),
            alerts_extra=len(self.alerts.keys() - expected),
            first_alert_s=None if self.first_alert_s is None else self._since_start(self.first_alert_s),
        )

    def _since_start(self, wall_s: float) -> float:
        return round(wall_s - (wall_s if self.first_sent_s is None else self.first_sent_s), 3)

    def _delay_ms(self, scored: Scored) -> float | None:
        sent_s = self.sent_s.get((scored.call_id, scored.segment_id))
        return None if sent_s is None else (scored.scored_at.timestamp() - sent_s) * 1000

    def _expected(self, limits: Limits, rules: RuleSet | None) -> set[str]:
        """The ids of the alerts that one pass over each partition of calls.sentiment gives."""
        partitions: dict[int, list[Scored]] = {}
        for partition, scored in self.log:
            partitions.setdefault(partition, []).append(scored)
        alerts = chain.from_iterable(judged(scored, limits, rules).alerts for scored in partitions.values())
        return {(dict(cloud_event(alert))["ce_id"] or b"").decode() for alert in alerts}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """By nearest rank, to a tenth."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1) if ordered else None
