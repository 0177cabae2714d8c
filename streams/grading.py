"""The figures of a backtest: how many alerts, how soon, how many of them right. Pure.

An alert is an episode: what opens, may escalate and resolves under one id. It is right when it opens or escalates at a
labelled turn or at most `within` turns after one; a labelled turn is found when such an alert comes, and the turns between
the two are the delay. Turns are everybody's. Precision is the share of alerts that are right, recall the share of labelled
turns that are found, both over the calls that are labelled.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from models.measures import percentile
from streams.backtest import Course, Played, Raised
from streams.records import SEVERITIES, AlertEvent, Severity
from streams.rules import RuleSet

WITHIN = 5
TELLING = ("open", "escalate")


@dataclass(frozen=True, slots=True)
class Marked:
    """What somebody who has listened says of a call: the turns (from 0, in order) at which a supervisor should be told, and
    whether it is routine (None: not said)."""

    turns: tuple[int, ...] = ()
    routine: bool | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An event of an alert as it is compared: by what a person is told and when, not by how it is put."""

    rule: str
    event: AlertEvent
    severity: Severity
    at_ms: int
    turn: int


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert's life without its updates; `severity` is the gravest that it reached."""

    alert_id: str
    rule: str
    severity: Severity
    opened: Raised
    told: tuple[Told, ...]

    def right(self, marked: Marked, within: int) -> bool:
        return any(self.delay(turn, within) is not None for turn in marked.turns)

    def delay(self, turn: int, within: int) -> int | None:
        """Turns from this labelled one to where the alert first opens or escalates; None where that is not soon enough."""
        delays = (told.turn - turn for told in self.told if told.event in TELLING)
        return min((delay for delay in delays if 0 <= delay <= within), default=None)


def episodes(course: Course) -> tuple[Episode, ...]:
    """In the order in which they opened."""
    lives: dict[str, list[Raised]] = {}
    for raised in course.raised:
        lives.setdefault(raised.alert.alert_id, []).append(raised)
    return tuple(map(_episode, lives.values()))


def _episode(life: Sequence[Raised]) -> Episode:
    alerts = [raised.alert for raised in life]
    told = tuple(
        Told(r.alert.rule.name, r.alert.event, r.alert.severity, r.alert.at_ms, r.turn)
        for r in life
        if r.alert.event != "update"
    )
    gravest = max((alert.severity for alert in alerts), key=SEVERITIES.index)
    return Episode(alerts[0].alert_id, alerts[0].rule.name, gravest, life[0], told)


@dataclass(frozen=True, slots=True)
class Graded:
    """One call: its alerts, which of them are right, and by labelled turn the delay (None: not found). `marked` is None where
    the call is not labelled."""

    call_id: str
    episodes: tuple[Episode, ...]
    marked: Marked | None
    right: frozenset[str]
    delays: Mapping[int, int | None]

    @property
    def flawless(self) -> bool:
        """Whether every alert is right and every labelled turn found, as far as the call is labelled."""
        return self.marked is None or (len(self.right) == len(self.episodes) and None not in self.delays.values())


def graded(played: Played, labels: Mapping[str, Marked], within: int = WITHIN) -> list[Graded]:
    """The calls in the order in which they began."""
    return [_graded(call_id, episodes(course), labels.get(call_id), within) for call_id, course in played.courses.items()]


def _graded(call_id: str, lives: tuple[Episode, ...], marked: Marked | None, within: int) -> Graded:
    if marked is None:
        return Graded(call_id, lives, None, frozenset(), {})
    right = frozenset(life.alert_id for life in lives if life.right(marked, within))
    delays = {turn: _least(life.delay(turn, within) for life in lives) for turn in marked.turns}
    return Graded(call_id, lives, marked, right, delays)


def _least(delays: Iterable[int | None]) -> int | None:
    return min((delay for delay in delays if delay is not None), default=None)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 90th percentile (nearest rank); None of nothing."""

    median: float | None
    p90: float | None


def spread(values: Sequence[float]) -> Spread:
    return Spread(round(median(values), 1), round(percentile(values, 0.9), 1)) if values else Spread(None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """How many, of which severity in the end, in how many calls; how far into the call they opened, in seconds and in turns of
    the customer. `right` of `labelled`: those in calls that are labelled."""

    alerts: int
    calls: int
    per_100_calls: float | None
    severities: Mapping[Severity, int]
    opened_s: Spread
    opened_customer_turns: Spread
    labelled: int
    right: int
    precision: float | None


@dataclass(frozen=True, slots=True)
class Routine:
    calls: int
    alerts: int
    per_100_calls: float | None


@dataclass(frozen=True, slots=True)
class Labels:
    """Over the calls that are labelled; shares to three decimals, None where there is nothing to divide by."""

    calls: int
    turns: int
    found: int
    precision: float | None
    recall: float | None
    delay_turns: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one rule set. `routine` is None where no call is said to be routine, `labels` where none is labelled."""

    hash: str
    all: Alerts
    rules: Mapping[str, Alerts]
    routine: Routine | None
    labels: Labels | None


def report(calls: Sequence[Graded], rules: RuleSet) -> Report:
    routine = [call for call in calls if call.marked is not None and call.marked.routine]
    labelled = [call for call in calls if call.marked is not None]
    told = sum(len(call.episodes) for call in routine)
    return Report(
        hash=rules.hash,
        all=_alerts(calls, None),
        rules={rule.ref.name: _alerts(calls, rule.ref.name) for rule in rules.rules},
        routine=Routine(len(routine), told, _share(100 * told, len(routine))) if routine else None,
        labels=_labels(labelled) if labelled else None,
    )


def _alerts(calls: Sequence[Graded], rule: str | None) -> Alerts:
    """Of one rule, or all."""
    rows = [(call, life) for call in calls for life in call.episodes if rule in (None, life.rule)]
    labelled = [(call, life) for call, life in rows if call.marked is not None]
    right = sum(life.alert_id in call.right for call, life in labelled)
    counts = Counter(life.severity for _, life in rows)
    return Alerts(
        alerts=len(rows),
        calls=len({call.call_id for call, _ in rows}),
        per_100_calls=_share(100 * len(rows), len(calls)),
        severities={severity: counts[severity] for severity in SEVERITIES if counts[severity]},
        opened_s=spread([life.opened.alert.at_ms / 1000 for _, life in rows]),
        opened_customer_turns=spread([life.opened.customer_turns for _, life in rows]),
        labelled=len(labelled),
        right=right,
        precision=_share(right, len(labelled)),
    )


def _labels(calls: Sequence[Graded]) -> Labels:
    alerts, right = sum(len(call.episodes) for call in calls), sum(len(call.right) for call in calls)
    delays = [delay for call in calls for delay in call.delays.values()]
    found = [delay for delay in delays if delay is not None]
    return Labels(len(calls), len(delays), len(found), _share(right, alerts), _share(len(found), len(delays)), spread(found))


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


@dataclass(frozen=True, slots=True)
class Change:
    """What a call's alerts say under the old rules only (`gone`) and under the new ones only (`come`)."""

    call_id: str
    gone: tuple[Told, ...]
    come: tuple[Told, ...]


def changes(old: Sequence[Graded], new: Sequence[Graded]) -> list[Change]:
    """Of the same calls, in their order: those whose alerts open, escalate or resolve differently. Updates are not compared."""
    pairs = ((a.call_id, _told(a), _told(b)) for a, b in zip(old, new, strict=True))
    return [Change(call_id, _less(a, b), _less(b, a)) for call_id, a, b in pairs if Counter(a) != Counter(b)]


def _told(call: Graded) -> list[Told]:
    return [told for life in call.episodes for told in life.told]


def _less(these: Sequence[Told], those: Sequence[Told]) -> tuple[Told, ...]:
    return tuple((Counter(these) - Counter(those)).elements())
