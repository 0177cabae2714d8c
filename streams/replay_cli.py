"""`callpulse replay`: recorded calls sent again, in their own time or faster, once or until stopped."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import click

from streams.settings import Settings

Progress = Callable[[str], AbstractContextManager[Callable[[], None]]]


def register(
    group: click.Group,
    takes: Callable[..., Callable[[Any], Any]],
    broker: Sequence[str],
    progress: Progress,
    examples: Callable[..., str],
) -> None:
    """Adds the command to a group; how settings become flags, and which say where the broker is, the group's module knows."""

    @group.command(epilog=examples("callpulse replay call.txt", "callpulse replay --speed 8 calls.jsonl.gz"))
    @takes(*broker)
    @click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
    @click.option("--bundled", is_flag=True, help="the demo's eight calls, in the place of files")
    @click.option("--speed", type=click.FloatRange(min=0), default=1.0, show_default=True, help="0: as fast as it goes")
    @click.option("--same-ids", is_flag=True, help="keep the call ids (default: a fresh suffix a run)")
    @click.option("--loop", is_flag=True, help="again and again, with fresh ids, until stopped; at --speed 1 or less")
    @click.option("--topic", help="send everything to this topic (full name)")
    @click.option("--json", "as_json", is_flag=True, help="print one summary object")
    def replay(
        settings: Settings,
        files: Sequence[str],
        bundled: bool,
        speed: float,
        same_ids: bool,
        loop: bool,
        topic: str | None,
        as_json: bool,
    ) -> int:
        """Send recorded calls again, in their own time or faster.

        A FILE is a recording (JSON Lines of whole messages), bare segments (JSON Lines), or a dialogue in plain text with
        lines "Agent: ..." and "Customer: ..."; - reads standard input. Timestamps are shifted to now and keep their spacing, so
        at a speed above 1 they run ahead of the clock, which brokers take for an hour. Beside live calls, give the replay a
        --prefix of its own: calls end by the time of their topic's records. SIGTERM ends a --loop with exit code 0.
        """
        from streams import rounds
        from streams.replay import CALLS, Replay

        if bool(files) == bundled:
            raise click.UsageError("name files, or --bundled")
        if loop and (same_ids or "-" in files):
            raise click.UsageError("--loop goes neither with --same-ids, whose calls would be over, nor with standard input")
        if loop and not 0 < speed <= 1:  # each time begins now, and would lie behind what ran ahead of the clock before
            raise click.UsageError("--loop goes at a --speed of 1 or less")
        paths = files or sorted(str(path) for path in CALLS.glob("*.jsonl"))
        how = Replay(speed=speed, fresh=None if same_ids else rounds.run_ids(), topic=topic)
        with progress("sent") as one:
            sent = (rounds.again if loop else rounds.once)(settings, paths, how, lambda *_: one())
        text = f"sent {sent.messages} messages of {sent.calls} calls in {sent.seconds:.1f} s"
        click.echo(json.dumps(asdict(sent)) if as_json else text)
        return 0
