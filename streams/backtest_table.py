"""What `callpulse backtest` prints: figures, then the calls that differ or are wrong; as text or as one JSON object. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from streams.backtest import Played
from streams.grading import Alerts, Change, Episode, Graded, Report, Spread, Told
from streams.live import clock, printable
from streams.records import SEVERITIES

COLOURS = {"critical": "red", "warning": "yellow", "info": "cyan"}


@dataclass(frozen=True, slots=True)
class Found:
    """All that there is to say. `calls` and the first report are the new rules', a second report the old ones'; `rejected` are
    the records that were no segment or could not be scored, by reason."""

    played: Played
    rejected: Mapping[str, int]
    within: int
    calls: Sequence[Graded]
    reports: Sequence[Report]
    changes: Sequence[Change]

    def to_dict(self, every: bool = False, wrong: bool = False) -> dict[str, Any]:
        return {
            **self._counts,
            "rejected": self._rejected,
            "within": self.within,
            "new": asdict(self.reports[0]),
            "old": asdict(self.reports[1]) if self._compared else None,
            "changed": len(self.changes) if self._compared else None,
            "listed": [_row(call, change) for call, change in self._listed(every, wrong)],
        }

    def lines(self, every: bool = False, wrong: bool = False) -> Iterator[str]:
        counts = [f"{count:,} {name}" for name, count in self._counts.items()]
        yield ", ".join(counts + [f"{count:,} rejected ({reason})" for reason, count in self._rejected.items()])
        for name, report in zip(("new rules", "old rules") if self._compared else ("rules",), self.reports, strict=True):
            yield ""
            yield from _table(f"{name} {report.hash}", report)
        if self._compared:
            yield ""
            yield f"{len(self.changes)} of {len(self.calls)} calls differ"
        for call, change in self._listed(every, wrong):
            yield from _told_of(call, change)

    @property
    def _compared(self) -> bool:
        return len(self.reports) > 1

    @property
    def _counts(self) -> dict[str, int]:
        turns = sum(len(course.turns) for course in self.played.courses.values())
        return {"calls": len(self.calls), "turns": turns, "repeats": self.played.repeats}

    @property
    def _rejected(self) -> dict[str, int]:
        late = {"call_ended": self.played.rejected} if self.played.rejected else {}
        return {**self.rejected, **late}

    def _listed(self, every: bool, wrong: bool) -> Iterator[tuple[Graded, Change | None]]:
        changed = {change.call_id: change for change in self.changes}
        for call in self.calls:
            if every or call.call_id in changed or (wrong and not call.flawless):
                yield call, changed.get(call.call_id)


def _row(call: Graded, change: Change | None) -> dict[str, Any]:
    gone, come = (change.gone, change.come) if change else ((), ())
    return {
        "call_id": call.call_id,
        "routine": call.marked.routine if call.marked else None,
        "alerts": [_alert(call, episode) for episode in call.episodes],
        "labels": [{"turn": turn, "delay_turns": delay} for turn, delay in call.delays.items()] if call.marked else None,
        "gone": [asdict(told) for told in gone],
        "come": [asdict(told) for told in come],
    }


def _alert(call: Graded, episode: Episode) -> dict[str, Any]:
    return {
        "alert_id": episode.alert_id,
        "rule": episode.rule,
        "severity": episode.severity,
        "right": episode.alert_id in call.right if call.marked else None,
        "events": [asdict(told) for told in episode.told],
    }


def _table(name: str, report: Report) -> Iterator[str]:
    width = max(len(name), *map(len, report.rules))
    severities = "".join(f"{severity:>9}" for severity in SEVERITIES)
    yield click.style(f"{name:<{width}} alerts per 100{severities}   opened at (p90)  customer's turn (p90)   right", bold=True)
    for rule, alerts in {"all": report.all, **report.rules}.items():
        yield f"{rule:<{width}} {_cells(alerts)}"
    if (routine := report.routine) is not None:
        yield f"{routine.calls} routine calls: {routine.alerts} alerts, {_figure(routine.per_100_calls)} per 100"
    if (found := report.labels) is not None:
        shares = f"precision {_figure(found.precision)}, recall {_figure(found.recall)}"
        delay = f", {_spread(found.delay_turns)} turns later" if found.found else ""
        yield f"{found.calls} labelled calls: {shares}; {found.found} of {found.turns} turns found{delay}"


def _cells(alerts: Alerts) -> str:
    severities = "".join(f"{alerts.severities.get(severity, 0) or '':>9}" for severity in SEVERITIES)
    opened, turn = _spread(alerts.opened_s, " s"), _spread(alerts.opened_customer_turns)
    right = f"{alerts.right} of {alerts.labelled}" if alerts.labelled else ""
    return f"{alerts.alerts:>6} {_figure(alerts.per_100_calls):>7}{severities} {opened:>17} {turn:>22} {right:>7}".rstrip()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _spread(given: Spread, unit: str = "") -> str:
    return "" if given.median is None else f"{given.median:g}{unit} ({given.p90:g})"


def _told_of(call: Graded, change: Change | None) -> Iterator[str]:
    """A call: what is gone and what has come, its alerts, its labelled turns."""
    yield click.style(printable(call.call_id), bold=True) + (" (routine)" if call.marked and call.marked.routine else "")
    for told in change.gone if change else ():
        yield click.style(f"  - {_words(told)}", fg="red")
    for told in change.come if change else ():
        yield click.style(f"  + {_words(told)}", fg="green")
    for episode in call.episodes:
        right = "" if call.marked is None else "right " if episode.alert_id in call.right else "wrong "
        yield click.style(f"    {right}{'; '.join(map(_words, episode.told))}", fg=COLOURS[episode.severity])
    for turn, delay in call.delays.items():
        yield f"    labelled turn {turn}: " + ("not found" if delay is None else f"found, {delay} turns later")


def _words(told: Told) -> str:
    return f"{clock(told.at_ms)} {told.event} {told.severity} {printable(told.rule)} (turn {told.turn})"
