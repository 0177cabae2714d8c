"""`callpulse backtest`: what rules would have alerted in recorded calls, how well, and how that differs from other rules."""

import collections
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.errors import RecordingError
from streams.records import SEVERITIES
from streams.settings import Settings

if TYPE_CHECKING:
    from models.engine import Engine
    from streams.backtest import Placed, Played
    from streams.grading import Alerts, Change, Graded, Report, Spread, Told
    from streams.labelled import Opened
    from streams.records import Record
    from streams.rules import RuleSet

FOUND = 3
"""The exit code where --fail-on-change has found something: 1 is a failure of the command itself, 2 wrong usage."""
BLOCK = 256  # records scored at a time, while those before are judged
COLOURS = {"critical": "red", "warning": "yellow", "info": "cyan"}
SETTINGS = ("rules", "score_speakers", "score_partials", "grace_s", "voice_silence_s", "chat_silence_s", "redact", "text")
Load = Callable[[Settings], Any]
Progress = Callable[[str], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags say beside the settings."""

    files: Sequence[str]
    against: Path | None
    labels: str | None
    within: int
    every: bool
    wrong: bool
    as_json: bool
    fail_on_change: bool


def command(
    takes: Callable[..., Any], model: Sequence[str], load: Load, progress: Progress, examples: Callable[..., str]
) -> click.Command:
    """The command; `takes(*names)` gives it its settings' flags, `model` names those of the model that `load` loads."""
    epilog = examples(
        "callpulse backtest --rules new.yaml sentiment.jsonl.gz",
        "callpulse backtest --rules new.yaml --against old.yaml sentiment.jsonl --fail-on-change",
        "callpulse backtest --rules rules/ --labels labels.jsonl calls.jsonl --json | jq .new.labels",
    )

    @click.command("backtest", epilog=epilog)
    @takes(*SETTINGS, *(name for name in model if name != "labels"))  # type: ignore[untyped-decorator]
    @click.argument(
        "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
    )
    @click.option("--against", type=click.Path(path_type=Path), metavar="OLD", help="other rules, to be compared call by call")
    @click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="JSON Lines: the labelled turns of these recordings (a model's own labels are CALLPULSE_LABELS here)",
    )
    @click.option(
        "--within",
        type=click.IntRange(min=0),
        default=5,
        show_default=True,
        metavar="N",
        help="turns after a labelled one in which an alert is right",
    )
    @click.option("--all", "every", is_flag=True, help="list every call, not only those that differ")
    @click.option("--wrong", is_flag=True, help="list the calls with a wrong alert or a labelled turn that was not found")
    @click.option("--fail-on-change", is_flag=True, help=f"exit code {FOUND} where the alerts of a call differ from --against")
    @click.option("--json", "as_json", is_flag=True, help="print one object with all figures and the listed calls")
    def backtest(settings: Settings, **flags: Any) -> int:
        """Say what rules would have alerted in recorded calls.

        A FILE is a recording of calls.sentiment, which needs no model; or what `replay` takes, scored here; or labelled whole
        calls, one JSON object a line: call_id, turns [{speaker, text}], alerts [{turn, reason}], routine. Those have no times:
        a turn takes 0.4 s a word (0.25 s a syllable of Hangul), and half a second lies between two. What is due happens by the
        records' times alone, and every call is judged to its end. Of a recording of several topics only the first is read.

        Labels say at which turns a supervisor should be told. An alert is right when it opens or escalates at a labelled turn or
        at most N turns (anybody's) after one; a labelled turn is found when such an alert comes, and the turns until then are its
        delay. Precision: alerts that are right. Recall: labelled turns that are found. For recordings they lie in a file of JSON
        Lines: call_id, and turn (from 0), segment_id or at_ms; none of them says that nobody need be told; routine, true or
        false, may stand beside. Only calls that the labels name count for precision and recall.

        Nothing of what was said is printed. Exit code 0, whatever the figures; 1 for a file that cannot be used, 2 for wrong
        usage and for rules that cannot be used; with --fail-on-change 3 where a call's alerts open, escalate or resolve
        differently.
        """
        asked = Asked(**flags)
        if asked.fail_on_change and asked.against is None:
            raise click.UsageError("--fail-on-change goes with --against")
        return run(settings, asked, load, progress)

    return backtest  # type: ignore[no-any-return]


def run(settings: Settings, asked: Asked, load: Load, progress: Progress) -> int:
    from streams import grading, labelled
    from streams.backtest import play

    sets = _rule_sets(settings, asked)
    given = labelled.labels_of(asked.labels) if asked.labels else {}
    files = [labelled.opened(path) for path in asked.files]
    with ExitStack() as stack:
        log = Log(settings, load, stack, stack.enter_context(progress("judged")))
        played = play(log.read(files), settings.limits, sets, settings.mask)
    labels = _labels(files) | labelled.marked(given, played[0].courses)
    if given and not labels:
        raise RecordingError(f"{asked.labels}: none of its calls is in these recordings")
    calls = [grading.graded(one, labels, asked.within) for one in played]
    reports = [grading.report(graded, rules) for graded, rules in zip(calls, sets, strict=True)]
    changes = grading.changes(calls[1], calls[0]) if len(calls) > 1 else []
    found = Found(log, played[0], calls[0], reports, changes)
    click.echo(json.dumps(found.to_dict(asked), ensure_ascii=False)) if asked.as_json else found.show(asked)
    return FOUND if changes and asked.fail_on_change else 0


def _rule_sets(settings: Settings, asked: Asked) -> "list[RuleSet]":
    from streams.rules import load
    from streams.unheard import refuse_words

    sets = [load(settings.rules_path)] + ([load(asked.against)] if asked.against else [])
    if not settings.text:
        for rules in sets:
            refuse_words(rules)
    return sets


def _labels(files: "Sequence[Opened]") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in files:
        if twice := next(iter(found.keys() & file.labels.keys()), None):
            raise RecordingError(f"{file.path}: the call {twice} is labelled in another file, too")
        found |= file.labels
    return found


class Log:
    """The scored segments of files, in order: read as they are, or scored. The model is loaded when the first is to be scored.
    `rejected` counts what is no segment, or could not be scored."""

    def __init__(self, settings: Settings, load: Load, stack: ExitStack, one: Callable[[], None]) -> None:
        self.rejected = 0
        self._settings, self._load, self._stack, self._one = settings, load, stack, one
        self._engine: Engine | None = None

    def read(self, files: "Iterable[Opened]") -> "Iterator[Placed]":
        from streams.records import Scored

        for file in files:
            for partition, result in self._decoded(file) if file.scored else self._scored(file):
                self._one()
                if isinstance(result, Scored):
                    yield partition, result
                else:
                    self.rejected += 1

    def _decoded(self, file: "Opened") -> Iterator[tuple[int, Any]]:
        from streams.wire import decode_scored

        return ((record.partition, decode_scored(record.value)) for record in file.records)

    def _scored(self, file: "Opened") -> Iterator[tuple[int, Any]]:
        """One block is judged while the next is scored."""
        from streams.pipeline import read

        engine, waiting = self._started(), collections.deque[Any]()
        for block in _blocks(file.records):
            reading = read(block, self._settings.policy)
            waiting.append((reading, engine.submit(reading.texts)))
            if len(waiting) > 1:
                yield from self._assembled(file, *waiting.popleft())
        for pair in waiting:
            yield from self._assembled(file, *pair)

    def _started(self) -> "Engine":
        from models.engine import Engine

        if self._engine is None:
            self._engine = self._stack.enter_context(Engine(self._load(self._settings), cache=self._settings.cached_texts))
        return self._engine

    def _assembled(self, file: "Opened", reading: Any, results: Any) -> Iterator[tuple[int, Any]]:
        from datetime import datetime, timezone

        from streams.pipeline import Stamp, assemble
        from streams.records import Model

        engine = self._started()
        model, now = Model(engine.name, engine.revision, engine.precision), datetime.now(timezone.utc)
        stamp = Stamp(file.path, model, now, self._settings.mask)
        return ((0, result) for result in assemble(reading, results.result(), stamp))


def _blocks(records: "Iterable[Record]") -> "Iterator[list[Record]]":
    rest = iter(records)
    while block := [*itertools.islice(rest, BLOCK)]:
        yield block


@dataclass(frozen=True, slots=True)
class Found:
    """All that there is to print; `calls` and the first report are of the new rules."""

    log: Log
    played: "Played"
    calls: "Sequence[Graded]"
    reports: "Sequence[Report]"
    changes: "Sequence[Change]"

    @property
    def counts(self) -> dict[str, int]:
        turns = sum(len(course.turns) for course in self.played.courses.values())
        rejected = self.log.rejected + self.played.rejected
        return {"calls": len(self.calls), "turns": turns, "repeats": self.played.repeats, "rejected": rejected}

    def listed(self, asked: Asked) -> "list[tuple[Graded, Change | None]]":
        changed = {change.call_id: change for change in self.changes}
        return [
            (call, changed.get(call.call_id))
            for call in self.calls
            if asked.every or call.call_id in changed or (asked.wrong and not call.flawless)
        ]

    def to_dict(self, asked: Asked) -> dict[str, Any]:
        old = asdict(self.reports[1]) if len(self.reports) > 1 else None
        listed = [_call(call, change) for call, change in self.listed(asked)]
        return {**self.counts, "within": asked.within, "new": asdict(self.reports[0]), "old": old, "listed": listed}

    def show(self, asked: Asked) -> None:
        for name, report in zip(("new", "old"), self.reports, strict=False):
            click.secho(f"{name if len(self.reports) > 1 else 'rules'} {report.hash}", bold=True)
            for line in _table(report):
                click.echo(line)
        for call, change in self.listed(asked):
            for line in _lines(call, change):
                click.echo(line)
        click.echo(", ".join(f"{count} {name}" for name, count in self.counts.items()))
        if len(self.reports) > 1:
            click.echo(f"{len(self.changes)} of {len(self.calls)} calls alert differently")


def _call(call: "Graded", change: "Change | None") -> dict[str, Any]:
    alerts = [
        {
            "alert_id": life.alert_id,
            "rule": life.rule,
            "severity": life.severity,
            "right": life.alert_id in call.right if call.marked else None,
            "events": [asdict(told) for told in life.told],
        }
        for life in call.episodes
    ]
    labels = [{"turn": turn, "delay_turns": delay} for turn, delay in call.delays.items()]
    row = {"call_id": call.call_id, "routine": call.marked.routine if call.marked else None, "alerts": alerts, "labels": labels}
    return row | {
        "gone": [asdict(t) for t in change.gone] if change else [],
        "come": [asdict(t) for t in change.come] if change else [],
    }


def _table(report: "Report") -> Iterator[str]:
    rows: Mapping[str, Alerts] = {"all": report.all, **report.rules}
    width = max(map(len, rows))
    heads = "".join(f"{severity:>9}" for severity in SEVERITIES)
    yield f"{'':<{width}}  alerts  a 100 calls{heads}  opened at (p90), customer turn (p90)  right"
    for name, alerts in rows.items():
        counts = "".join(f"{alerts.severities.get(severity, 0):>9}" for severity in SEVERITIES)
        opened = f"{_spread(alerts.opened_s):>10} s {_spread(alerts.opened_customer_turns):>22}"
        right = f"{alerts.right} of {alerts.labelled}" if report.labels else "-"
        yield f"{name:<{width}}  {alerts.alerts:>6}  {_figure(alerts.per_100_calls):>11}{counts}  {opened}  {right:>5}"
    if report.routine:
        r = report.routine
        yield f"routine: {r.alerts} alerts in {r.calls} calls, {_figure(r.per_100_calls)} a 100"
    if report.labels:
        m = report.labels
        yield (
            f"labelled: {m.calls} calls, {m.found} of {m.turns} turns found; precision {_figure(m.precision)}, "
            f"recall {_figure(m.recall)}, delay {_spread(m.delay_turns)} turns"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _spread(given: "Spread") -> str:
    return f"{_figure(given.median)} ({_figure(given.p90)})"


def _lines(call: "Graded", change: "Change | None") -> Iterator[str]:
    """A call: its alerts, marked right or wrong, and labelled turns not found; or, where it differs, what is gone and new."""
    from streams.live import printable

    routine = ", routine" if call.marked and call.marked.routine else ""
    yield click.style(f"{printable(call.call_id)}{routine}", bold=True)
    if change is not None:
        yield from (click.style(f"  - {_told(told)}", fg="red") for told in change.gone)
        yield from (click.style(f"  + {_told(told)}", fg="green") for told in change.come)
    for life in call.episodes:
        mark = "" if call.marked is None else "right: " if life.alert_id in call.right else "wrong: "
        yield click.style(f"    {mark}{'; '.join(map(_told, life.told))}", fg=COLOURS[life.severity])
    for turn, delay in call.delays.items():
        yield f"    labelled turn {turn}: {'not found' if delay is None else f'found after {delay} turns'}"


def _told(told: "Told") -> str:
    from streams.live import clock, printable

    return f"{printable(told.rule)} {told.event} {told.severity} {clock(told.at_ms)} (turn {told.turn})"
