"""`callpulse alerts`: the events of calls.alerts, each once, filtered, for a person or for a script."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any, get_args

import click

from streams.conversation import epoch_ms, read_ms
from streams.errors import SettingsError
from streams.records import SEVERITIES, Alert, AlertEvent, Record, Severity
from streams.settings import Settings

FOUND = 3
"""The exit code where --fail-on has found something: 1 is a failure of the command itself, 2 wrong usage."""
EVENTS = [event for event in get_args(AlertEvent) if event != "acknowledge"]  # reserved: nothing writes it yet
REMEMBERED = 100_000  # events by which a repeat is known
COLOURS: dict[Severity, str | None] = {"critical": "red", "warning": "yellow", "info": "cyan"}
RESOLVED = "green"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are meant: of this severity or a graver one, of one of the rules, calls and events; () is any. Names of
    rules and calls may hold * and ?."""

    severity: Severity = "info"
    rules: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def takes(self, alert: Alert) -> bool:
        return (
            at_least(alert.severity, self.severity)
            and _one_of(self.rules, alert.rule.name)
            and _one_of(self.calls, alert.call_id)
            and alert.event in (self.events or (alert.event,))
        )


def at_least(severity: Severity, least: Severity) -> bool:
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def _one_of(patterns: Sequence[str], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def since_ms(text: str, now: datetime) -> int:
    """Milliseconds since 1970 (0 before) of an RFC 3339 time, or of so long ago ("90s", "15m", "1d"). Raises SettingsError."""
    try:
        if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
            return max(0, epoch_ms(now - timedelta(**{UNITS[ago[2]]: int(ago[1])})))
        return read_ms(text)
    except (ValueError, TypeError, OverflowError) as error:
        raise SettingsError(
            f"--since: {text!r} is neither a time such as 2026-01-31T09:00:00Z nor one such as 15m ago"
        ) from error


def once(records: Iterable[Record]) -> Iterator[tuple[Alert, bytes]]:
    """The alerts among these records, a repeat of the last 100,000 left out; what is none is named on standard error."""
    from streams.wire import decode_alert

    seen: dict[tuple[str, int], None] = {}
    for record in records:
        try:
            alert = decode_alert(record.value or b"")
        except ValueError:  # msgspec's errors are
            click.echo(f"no alert: {record.topic} partition {record.partition} offset {record.offset}", err=True)
            continue
        if (alert.alert_id, alert.sequence) not in seen:
            seen[alert.alert_id, alert.sequence] = None
            yield alert, record.value or b""
        if len(seen) > REMEMBERED:
            del seen[next(iter(seen))]


def lines(alert: Alert) -> Iterator[str]:
    """What a person reads of it, coloured by severity: the event, then the turns that it quotes."""
    from streams.live import clock, printable

    colour = RESOLVED if alert.status == "resolved" else COLOURS[alert.severity]
    head = click.style(f"{alert.at:%H:%M:%S} {alert.event:<8} {alert.severity:<8} {printable(alert.rule.name)}", fg=colour)
    yield f"{head}  {printable(alert.call_id)} at {clock(alert.at_ms)}: {printable(alert.reason)}"
    for turn in () if alert.event == "resolve" else alert.evidence:
        yield f"    {turn.score:+.2f} {turn.speaker}" + (f": {printable(turn.text)}" if turn.text else "")


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _read(settings: Settings, follow: bool, since: int) -> Iterator[Record]:
    """calls.alerts from a time on. On Kafka reading begins there; the embedded broker finds no offsets by time."""
    from streams.topics import offsets_since, tail

    name = settings.topic("alerts")
    begin = offsets_since(settings, name, since) if since and settings.broker == "kafka" else None
    return (record for record in tail(settings, name, follow, begin) if record.timestamp >= since)


def register(
    group: click.Group, takes: Callable[..., Callable[[Any], Any]], broker: Sequence[str], examples: Callable[..., str]
) -> None:
    """Adds the command to a group; how settings become flags, and which say where the broker is, the group's module knows."""
    epilog = examples(
        "callpulse alerts --follow",
        "callpulse alerts --severity critical --since 15m",
        "callpulse alerts --rule 'sharp_*' --event open --json | jq -r .call_id",
        "callpulse alerts --since 1h --fail-on critical || echo somebody should look",
    )
    again = "; may be given more than once"

    @group.command(epilog=epilog)
    @takes(*broker)
    @click.option("--follow", "-f", is_flag=True, help="go on with what comes; with --fail-on until that has come")
    @click.option("--severity", type=click.Choice(SEVERITIES), default="info", help="only of this severity or a graver one")
    @click.option("--rule", "rules", multiple=True, metavar="NAME", help=f"only of this rule (* and ? stand for any){again}")
    @click.option("--call", "calls", multiple=True, metavar="ID", help=f"only of this call (* and ? stand for any){again}")
    @click.option("--event", "events", multiple=True, type=click.Choice(EVENTS), help=f"only this event{again}")
    @click.option("--since", metavar="TIME", help="only what came at this time (RFC 3339) or later, or so long ago: 15m, 2h")
    @click.option("--fail-on", type=click.Choice(SEVERITIES), help=f"exit code {FOUND} where one that is shown is as grave")
    @click.option("--json", "as_json", is_flag=True, help="the alerts as they are, one object a line")
    def alerts(
        settings: Settings, follow: bool, since: str | None, as_json: bool, fail_on: Severity | None, **filters: Any
    ) -> int:
        """Print the alerts of calls.alerts, each event once.

        A line is an event in the life of an alert: open, update, escalate, resolve; the customer's turns that it quotes
        follow. Exit code 0, whatever is shown; with --fail-on 3 where something is.
        """
        from streams.topics import reach

        wanted = Wanted(**filters)
        begin = since_ms(since, datetime.now(timezone.utc)) if since else 0
        reach(settings)
        found = False
        for alert, value in once(_read(settings, follow, begin)):
            if not wanted.takes(alert):
                continue
            for text in [value.decode()] if as_json else lines(alert):
                click.echo(text, color=_coloured())
            found = found or bool(fail_on and at_least(alert.severity, fail_on))
            if found and follow:
                break
        return FOUND if found else 0
