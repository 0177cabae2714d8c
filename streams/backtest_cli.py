"""`callpulse backtest`: what rules would have alerted in recorded calls, how well, and how that differs from other rules.

`cli` registers it. Exit codes: 0 done, 1 a file cannot be used, 2 wrong usage or wrong rules, 3 what --fail-on-change asks for.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streams.errors import RecordingError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.backtest_table import Found
    from streams.grading import Marked
    from streams.labelled import Opened
    from streams.rules import RuleSet

CHANGED = 3
SETTINGS = ("rules", "score_speakers", "score_partials", "grace_s", "voice_silence_s", "chat_silence_s", "redact", "text")
Load = Callable[[Settings], Any]
Progress = Callable[[str], AbstractContextManager[Callable[[], None]]]
T = TypeVar("T")


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
        "callpulse backtest --rules new.yaml --against old.yaml --fail-on-change sentiment.jsonl",
        "callpulse backtest --rules rules/ --labels labels.jsonl --json calls.jsonl | jq .new.labels",
    )
    a_file = click.Path(exists=True, dir_okay=False)
    labels = "the labelled turns of these recordings, JSON Lines (a model's own labels: CALLPULSE_LABELS)"
    within = "an alert is right so many turns after a labelled one"

    @click.command("backtest", epilog=epilog)
    @takes(*SETTINGS, *(name for name in model if name != "labels"))  # type: ignore[untyped-decorator]
    @click.argument(
        "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
    )
    @click.option("--against", type=click.Path(path_type=Path), metavar="OLD", help="other rules, compared call by call")
    @click.option("--labels", type=a_file, metavar="FILE", help=labels)
    @click.option("--within", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help=within)
    @click.option("--all", "every", is_flag=True, help="list every call, not only those that differ from --against")
    @click.option("--wrong", is_flag=True, help="list the calls with a wrong alert or a labelled turn that is not found")
    @click.option("--fail-on-change", is_flag=True, help=f"exit code {CHANGED} where a call differs from --against")
    @click.option("--json", "as_json", is_flag=True, help="print one object with all figures and the listed calls")
    def backtest(settings: Settings, **flags: Any) -> int:
        """Say what rules would have alerted in recorded calls: how often, how soon, how rightly.

        A FILE is a recording of calls.sentiment, for which no model is needed; or what `replay` takes, which is scored here; or
        labelled whole calls, an object a line: call_id, turns [{speaker, text}], alerts [{turn, reason}], routine. These have
        no times: a turn takes 0.4 s a word (0.25 s a syllable of Hangul), and half a second lies between two. Of a recording of
        several topics one is taken. What is due happens by the records' times; every call is judged to its end.

        Labels say at which turns a supervisor should be told. An alert is right when it opens or escalates at a labelled turn
        or at most N turns (anybody's) after one; a labelled turn is found when such an alert comes, and the turns until then
        are its delay. Precision: the share of alerts that are right. Recall: the share of labelled turns that are found. For
        recordings the labels lie in a file of their own, an object a line: call_id, and turn (from 0), segment_id or at_ms;
        without these three nobody is to be told in that call; routine may stand beside. Only calls that are named count.

        Two rule sets differ in a call where an alert opens, escalates or resolves at another time, at another severity, or in
        one of them only. What was said is never printed. Exit code 0 whatever the figures, 1 where a file cannot be used, 2
        for wrong usage and wrong rules, 3 with --fail-on-change.
        """
        asked = Asked(**flags)
        if asked.fail_on_change and asked.against is None:
            raise click.UsageError("--fail-on-change goes with --against")
        found = backtested(settings, asked, load, progress)
        if asked.as_json:
            click.echo(json.dumps(found.to_dict(asked.every, asked.wrong), ensure_ascii=False))
        else:
            for line in found.lines(asked.every, asked.wrong):
                click.echo(line)
        return CHANGED if asked.fail_on_change and found.changes else 0

    return backtest


def backtested(settings: Settings, asked: Asked, load: Load, progress: Progress) -> "Found":
    """Reads, scores where need be, judges and grades. Raises RecordingError where there is nothing to judge."""
    from streams import grading, labelled
    from streams.backtest import play
    from streams.backtest_table import Found
    from streams.scoring import Log

    sets = _rule_sets(settings, asked.against)
    given = labelled.labels_of(asked.labels) if asked.labels else {}
    files = [labelled.opened(path) for path in asked.files]
    known = _in_files(files)
    with Log(settings, load) as log, progress("judged") as one:
        played = play(_counted(log.read(files), one), settings.limits, sets, settings.mask)
    if not played[0].courses:
        raise RecordingError(f"{', '.join(asked.files)}: no segment of a call; rejected: {dict(log.rejected)}")
    marked = known | labelled.marked(given, played[0].courses)
    if given and not marked.keys() & given.keys():
        raise RecordingError(f"{asked.labels}: no call of these recordings is named there")
    calls = [grading.graded(one, marked, asked.within) for one in played]
    reports = [grading.report(graded, rules) for graded, rules in zip(calls, sets, strict=True)]
    return Found(played[0], log.rejected, asked.within, calls[0], reports, grading.changes(calls[-1], calls[0]))


def _rule_sets(settings: Settings, against: Path | None) -> "list[RuleSet]":
    """The new rules, then the old ones if there are any."""
    from streams.rules import load
    from streams.unheard import refuse_words

    sets = [load(path) for path in (settings.rules_path, *([against] if against else []))]
    for rules in () if settings.text else sets:
        refuse_words(rules)
    return sets


def _in_files(files: "Sequence[Opened]") -> "dict[str, Marked]":
    """The labels of labelled calls."""
    found: dict[str, Marked] = {}
    for file in files:
        if twice := next(iter(found.keys() & file.labels.keys()), None):
            raise RecordingError(f"{file.path}: there is a call {twice} in another file already")
        found |= file.labels
    return found


def _counted(each: Iterable[T], one: Callable[[], None]) -> Iterator[T]:
    for it in each:
        one()
        yield it
