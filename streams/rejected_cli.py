"""`callpulse rejected`: what lies on calls.rejected, listed, shown whole, sent again. Only `show` prints what was said.

Exit codes: 0 done, 1 an original was too large to be kept (or the broker does not answer), 2 wrong usage.
"""

import collections
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from streams.records import Record
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.rejected import Rejection, Wanted
    from streams.retry import How

Progress = Callable[[str], AbstractContextManager[Callable[[], None]]]


def register(
    group: click.Group,
    takes: Callable[..., Callable[[Any], Any]],
    broker: Sequence[str],
    progress: Progress,
    examples: Callable[..., str],
) -> None:
    """Adds the commands to a group; how settings become flags, and which say where the broker is, the group's module knows."""

    @group.group()
    def rejected() -> None:
        """See what was rejected and why; send it again once the cause is gone."""

    @rejected.command(
        "list", epilog=examples("callpulse rejected list --reason wrong_type", "callpulse rejected list --json | jq -r .key")
    )
    @takes(*broker)
    @click.option("--reason", help="only what was rejected for this reason, e.g. wrong_type")
    @click.option("--stage", type=click.Choice(["score", "judge"]), help="only what was rejected there")
    @click.option("--since", metavar="TIME", help="only what was rejected at this time (RFC 3339) or later")
    @click.option("--follow", "-f", is_flag=True, help="go on with what comes")
    @click.option("--json", "as_json", is_flag=True, help="one object a line")
    def list_command(
        settings: Settings, reason: str | None, stage: str | None, since: str | None, follow: bool, as_json: bool
    ) -> int:
        """List the records of calls.rejected.

        A line says where it lies there (PARTITION:OFFSET), when it came, the stage and the reason, where the original was read,
        its key, and the detail; never what was said in the call.
        """
        from streams.rejected import Wanted, since_ms
        from streams.topics import reach

        reach(settings)
        return print_all(settings, Wanted(reason, stage, since_ms(since) if since else 0), follow, as_json)

    @rejected.command("show", epilog=examples("callpulse rejected show 3:1207", "callpulse rejected show 3:1207 --raw > value"))
    @takes(*broker)
    @click.argument("place", metavar="PARTITION:OFFSET")
    @click.option("--raw", is_flag=True, help="only the original's value, byte by byte")
    def show_command(settings: Settings, place: str, raw: bool) -> int:
        """Show one record of calls.rejected whole.

        This prints what was said in the call; control characters are left out, except with --raw.
        """
        return show(settings, place, raw)

    @rejected.command(
        "retry",
        epilog=examples(
            "callpulse rejected retry 3:1207 3:1208", "callpulse rejected retry --all --reason wrong_type --dry-run"
        ),
    )
    @takes(*broker, "group")
    @click.argument("places", metavar="[PARTITION:OFFSET]...", nargs=-1)
    @click.option("--all", "all_of_them", is_flag=True, help="retry all that no --all has retried before")
    @click.option("--reason", help="with --all: only what was rejected for this reason")
    @click.option(
        "--since", metavar="TIME", help="with --all: leave out, for good, what was rejected before this time (RFC 3339)"
    )
    @click.option("--again", is_flag=True, help="with --all: what was retried before as well")
    @click.option("--dry-run", is_flag=True, help="send nothing; list what would be sent")
    @click.option("--json", "as_json", is_flag=True, help="print one summary object")
    def retry_command(
        settings: Settings,
        places: Sequence[str],
        all_of_them: bool,
        reason: str | None,
        since: str | None,
        again: bool,
        dry_run: bool,
        as_json: bool,
    ) -> int:
        """Send rejected originals to calls.segments again.

        Key, value and headers are as they were; they count as new messages of now. What is still bad is rejected again. A
        scored segment that the judge rejected goes to calls.segments, too, and is scored anew: on calls.sentiment the judge
        would take it for a repeat. How far --all got is committed in the group GROUP-retry, so that it sends nothing twice; a
        PARTITION:OFFSET is sent whenever it is named. Exit code 1 when an original was too large to be kept, so that nothing is
        there to be sent.
        """
        from streams import rejected as reading
        from streams.retry import How
        from streams.topics import reach

        if bool(places) == all_of_them or (places and (reason or since or again)):
            raise click.UsageError("name places, or --all; --reason, --since and --again go with --all")
        wanted = reading.Wanted(reason, None, reading.since_ms(since) if since else 0)
        how, chosen = How(wanted, again, dry_run), [reading.place(place) for place in places]
        reach(settings)
        return send_again(settings, chosen, how, progress, as_json)


def print_all(settings: Settings, wanted: "Wanted", follow: bool, as_json: bool) -> int:
    """A line for each that is wanted; on a terminal the counts by reason at the end."""
    from streams.live import printable
    from streams.rejected import shown
    from streams.topics import tail

    reasons = collections.Counter[str]()
    for r in filter(wanted.takes, _rejections(tail(settings, settings.topic("rejected"), follow))):
        reasons[r.reason] += 1
        if as_json:
            click.echo(json.dumps(r.row(), ensure_ascii=False))
            continue
        texts = (r.stage, r.reason, r.found, shown(r.original.key), r.detail)
        stage, why, found, key, detail = (printable(text or "-") for text in texts)
        click.echo(f"{r.place:<8} {r.at:%Y-%m-%dT%H:%M:%SZ} {stage:<5} {why:<15} {found}  {key}  {detail}")
    if sys.stdout.isatty() and not as_json:
        click.echo(f"{reasons.total()} rejected" + "".join(f", {count} {name}" for name, count in reasons.most_common()))
    return 0


def show(settings: Settings, place: str, raw: bool) -> int:
    """Everything that is known of one; raises TopicsError where callpulse has put none."""
    from streams import rejected as reading
    from streams.live import printable
    from streams.retry import record_at
    from streams.topics import reach

    at = reading.place(place)
    reach(settings)
    record = record_at(settings, at)
    [rejection] = _rejections([record])
    if raw and record.value is not None:
        click.echo(record.value, nl=False)
    elif not raw:
        lines = [*rejection.row().items(), *((f"header {name}", value) for name, value in rejection.original.headers)]
        for name, shown in [*lines, ("value", record.value)]:
            text = reading.shown(shown) if isinstance(shown, bytes) else "-" if shown is None else str(shown)
            click.echo(f"{printable(name):<10} {printable(text or '')}")
    if record.value is None:
        click.echo("it has no value" if rejection.kept else "the original was too large to be kept", err=True)
    return 1 if raw and record.value is None else 0


def send_again(settings: Settings, places: Sequence[tuple[int, int]], how: "How", progress: Progress, as_json: bool) -> int:
    """Retries these, or all where none is named; which cannot be is said on standard error."""
    from streams import retry

    with progress("retried") as one:

        def on_sent(rejection: "Rejection") -> None:
            one()
            if how.dry_run and not as_json:
                click.echo(f"{rejection.place:<8} {rejection.reason:<15} {rejection.found}")

        done = retry.retry_places(settings, places, how, on_sent) if places else retry.retry_all(settings, how, on_sent)
    for refused in done.refused:
        click.echo(f"{refused} cannot be retried: it was too large to be kept", err=True)
    verb = "would retry" if how.dry_run else "retried"
    text = f"{verb} {done.retried}; {done.before} were retried before, {done.left_out} left out, {len(done.refused)} refused"
    click.echo(json.dumps(asdict(done)) if as_json else text)
    return 1 if done.refused else 0


def _rejections(records: Iterable[Record]) -> "Iterator[Rejection]":
    """What callpulse rejected among these records; what it did not write is named on standard error."""
    from streams.rejected import parse

    for record in records:
        if (rejection := parse(record)) is not None:
            yield rejection
        else:
            click.echo(f"not by callpulse: {record.topic} partition {record.partition} offset {record.offset}", err=True)
