"""The command line: reads flags and variables, calls one function, prints, and turns errors into exit codes.

Exit codes: 0 done, 1 failed or found something wrong, 2 wrong usage, 3 found what `alerts --fail-on` or
`backtest --fail-on-change` asks for, 130 interrupted.
"""

import gc
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from models.errors import ModelError
from models.sentiment import LABELS
from streams import __version__, alerts_cli, backtest_cli, logs, rejected_cli, replay_cli, rules_cli
from streams import settings as settings_module
from streams.errors import CallpulseError, SettingsError
from streams.records import Record
from streams.settings import KEY_PASSWORD, SASL_PASSWORD, SECURITY, Settings

if TYPE_CHECKING:
    from streams.traced import Tracer

Command = TypeVar("Command", bound=Callable[..., Any])
BROKER = ("bootstrap_servers", "broker", "prefix", *SECURITY)
TOPICS = (*BROKER, "partitions", "replication", "rejected_days")
MODEL = ("model", "labels", "device", "precision", "runtime", "threads", "batch_tokens")


def takes(*names: str) -> Callable[[Command], Command]:
    """Gives a command the flags of these settings; the command gets one `settings` argument."""

    def decorate(command: Command) -> Command:
        def called(**given: Any) -> Any:
            flags = {name: str(value) for name in names if (value := given.pop(name, None)) is not None}
            return command(settings=settings_module.from_mapping(flags, os.environ), **given)

        called.__name__, called.__doc__ = command.__name__, command.__doc__
        called.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        for field in reversed([f for f in settings_module.listed() if f.name in names]):
            called = _option(field)(called)
        return called  # type: ignore[return-value]

    return decorate


def _option(field: Any) -> Any:
    flag, kind = settings_module.flag(field.name), type(field.default)
    default = "" if field.default == "" else f"default: {field.default}; "
    shown = f"{field.metadata['help']}  [{default}{settings_module.variable(field.name)}]"
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=shown)
    return click.option(flag, field.name, metavar=kind.__name__.upper(), default=None, help=shown)


class SecurityLast(click.Command):
    """A command whose help keeps the nine flags of security apart from its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(param.name in SECURITY, row) for param in self.get_params(ctx) if (row := param.get_help_record(ctx))]
        security = f"TLS and SASL (passwords: {SASL_PASSWORD}, {KEY_PASSWORD}, or files; no flag takes one)"
        for heading, apart in (("Options", False), (security, True)):
            if chosen := [row for secure, row in rows if secure is apart]:
                with formatter.section(heading):
                    formatter.write_dl(chosen)


class Commands(click.Group):
    command_class, group_class = SecurityLast, type


def examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="callpulse")
def cli() -> None:
    """Streaming sentiment of contact-centre calls: segments in, alerts with their evidence out.

    Try `callpulse demo` first: it brings its own broker. Every flag that shows a CALLPULSE_ variable may be set by it.
    """


@cli.command(epilog=examples("callpulse worker --create-topics", "callpulse worker --only judge --web-port 6067"))
@takes(*(f.name for f in settings_module.listed()))
@click.option("--only", type=click.Choice(["score", "judge"]), help="run one of the two agents")
@click.option(
    "--skip", multiple=True, metavar="T:P:O", help="send the record at TOPIC:PARTITION:OFFSET to calls.rejected unseen"
)
def worker(settings: Settings, only: str | None, skip: Sequence[str]) -> int:
    """Score segments and judge calls until stopped.

    Ctrl-C and SIGTERM finish what is under way, commit it and stop, within four and ten seconds. A record at which the code
    itself fails stops the worker, and would stop it again; its last line names the place: --skip is the way out. A text
    that the model fails on stops nothing; it goes to calls.rejected.
    """
    logs.configure(settings.log_level, settings.log_format)
    _check_skip(settings, skip)
    _ = settings.mask  # what it lacks is told now, not at the first text
    tracing = _tracing(settings)
    from streams import reload, topics

    rules = reload.begin(settings.rules_path, settings.text)
    with topics.admin(settings) as client:
        if settings.create_topics:
            for name in topics.create(client, settings):
                logging.getLogger("callpulse.worker").info("created topic %s", name)
        found = topics.found(client, settings)
    topics.check(found, settings)
    topics.permit(found, score=only != "judge", judge=only != "score")
    # The model's threads share the cores with the event loop: waiting for each other, they must not spin (measured: half of the
    # throughput when another process wants a core). OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    scorer = None if only == "judge" else _load(settings)
    for role, topic in (("judge", "sentiment"), ("score", "segments")):  # both: a judge that starts later misses nothing
        topics.begin(settings, f"{settings.group}-{role}", settings.topic(topic))
    gc.freeze()  # what is loaded by now stays: looking for garbage in it takes a sixth of a second each time
    from streams.worker import run

    with tracing as tracer:
        return run(settings, found, scorer, judge=only != "score", skip=skip, rules=rules, tracer=tracer)


def _tracing(settings: Settings) -> "AbstractContextManager[Tracer]":
    """Raises SettingsError, with the way out, where the libraries that --traces needs are not installed."""
    from streams.traced import UNTRACED

    if not settings.traces:
        return nullcontext(UNTRACED)
    try:
        from streams.tracing import exported
    except ImportError as error:
        raise SettingsError("--traces needs OpenTelemetry: pip install '.[otel]'") from error
    return exported(settings)


def _check_skip(settings: Settings, skip: Sequence[str]) -> None:
    topics = [settings.topic(name) for name in ("segments", "sentiment")]
    for place in skip:
        topic, *numbers = place.split(":")
        if topic not in topics or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise SettingsError(f"--skip: {place!r} is no place such as {topics[0]}:3:1207 (topics: {', '.join(topics)})")


@cli.command(epilog=examples("callpulse demo", "callpulse demo --kill", "callpulse demo --json --speed 0"))
@takes("bootstrap_servers", "broker", *MODEL, "redact", "text", *SECURITY)
@click.option("--speed", type=click.FloatRange(min=0), default=8.0, show_default=True, help="0: as fast as it goes")
@click.option("--kill", is_flag=True, help="kill the worker midway and count what was lost or doubled")
@click.option("--json", "as_json", is_flag=True, help="no view; one summary object on the last line")
def demo(settings: Settings, speed: float, kill: bool, as_json: bool) -> int:
    """Watch eight recorded calls being scored, and the alerts that they raise.

    Starts a broker of its own unless one is named by --bootstrap-servers or CALLPULSE_BOOTSTRAP_SERVERS.
    """
    from streams import demo as play

    _ = settings.mask
    named = click.get_current_context().params["bootstrap_servers"], os.environ.get("CALLPULSE_BOOTSTRAP_SERVERS")
    return play.run(settings, play.Options(speed=speed, kill=kill, json=as_json, own_broker=not any(named)))


@cli.group()
def topics() -> None:
    """Create or list the six topics."""


@topics.command("create", epilog=examples("callpulse topics create --partitions 12", "callpulse topics create --dry-run"))
@takes(*TOPICS)
@click.option("--dry-run", is_flag=True, help="print the kafka-topics commands instead")
def topics_create(settings: Settings, dry_run: bool) -> int:
    """Create those of the six topics that are missing."""
    from streams import topics as topic

    if dry_run:
        for plan in topic.plans(settings):
            click.echo(plan.command(settings.bootstrap_servers))
        return 0
    with topic.admin(settings) as client:
        created = topic.create(client, settings)
        topic.check(topic.found(client, settings), settings)
    click.echo("\n".join(f"created {name}" for name in created) or "all six were there already")
    return 0


@topics.command("list", epilog=examples("callpulse topics list", "callpulse topics list --json"))
@takes(*BROKER)
@click.option("--json", "as_json", is_flag=True, help="one object a line")
def topics_list(settings: Settings, as_json: bool) -> int:
    """List the six topics as they are; exit code 1 when one is missing."""
    from streams import topics as topic

    with topic.admin(settings) as client:
        found = topic.found(client, settings)
    for name in topic.NAMES:
        there = found.get(name)
        row = {"topic": settings.topic(name), "partitions": there.partitions if there else None}
        click.echo(json.dumps(row) if as_json else f"{row['topic']:<24} {row['partitions'] or 'missing'}")
    return 0 if len(found) == len(topic.NAMES) else 1


@cli.command(
    epilog=examples(
        "callpulse score 'this is ridiculous' 'thank you so much'", "callpulse score --json --runtime onnx < lines.txt"
    )
)
@takes(*MODEL)
@click.argument("texts", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="one object a line")
def score(settings: Settings, texts: Sequence[str], as_json: bool) -> int:
    """Score lines of text: arguments, or one a line from standard input."""
    from models.engine import Engine

    lines = list(texts) or [line.rstrip("\n") for line in sys.stdin]
    with Engine(_load(settings), cache=0) as engine:
        scores = engine.score(lines)
    for text, s in zip(lines, scores, strict=True):
        values = {"label": s.label, "score": round(s.score, 4)} | {n: round(getattr(s, n), 4) for n in LABELS}
        row = {"text": text, **values, "truncated": s.truncated}
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else f"{s.label:<8} {s.score:+.2f}  {text}")
    return 0


@cli.command(
    epilog=examples("callpulse evaluate held_out.jsonl", "callpulse evaluate turns.jsonl --model checkpoint/ --vader --json")
)
@takes(*MODEL)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--binary", is_flag=True, help="leave neutral rows out, compare P(positive) with P(negative)")
@click.option("--vader", is_flag=True, help="the lexicon VADER beside it, as the floor (English only)")
@click.option(
    "--agreement", type=click.Choice(["fp32", "bf16"]), help="compare eager's scores in fp32 with those in this precision"
)
@click.option(
    "--errors", type=click.IntRange(min=0), default=0, metavar="N", help="show the N most confident wrong rows of a set"
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="write a reliability diagram")
@click.option("--json", "as_json", is_flag=True, help="print one object with all figures")
def evaluate(settings: Settings, files: Sequence[Path], binary: bool, as_json: bool, **wanted: Any) -> int:
    """Measure a checkpoint on labelled text: F1, accuracy, calibration, speed and size.

    A FILE is JSON Lines, plain or .gz, with lines {"text": ..., "label": "negative", "neutral" or "positive"}. Its texts
    are printed with --errors only. A file without neutral rows is measured as --binary does.
    """
    from models import evaluate as evaluating
    from models.report import to_text

    try:
        sets = evaluating.read_sets(files, binary)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    checkpoint = evaluating.Checkpoint(
        settings.model,
        settings.device,
        _labels(settings),
        settings.batch_tokens or None,
        settings.threads or None,
        settings.precision,
        settings.runtime,
    )
    report = evaluating.evaluate(checkpoint, sets, evaluating.Wanted(**wanted))
    click.echo(json.dumps(asdict(report), ensure_ascii=False) if as_json else to_text(report))
    return 0


@cli.command(epilog=examples("callpulse validate calls.jsonl", "callpulse validate --topic calls.segments --json"))
@takes(*BROKER, "score_speakers", "score_partials")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--topic", help="read this topic (full name) instead of a file")
@click.option("--json", "as_json", is_flag=True, help="print one report object")
def validate(settings: Settings, file: str | None, topic: str | None, as_json: bool) -> int:
    """Say what a worker would reject and why, and what looks wrong though it is valid.

    Exit code 1 when something would be rejected. Never prints what was said in a call.
    """
    from streams.recording import read
    from streams.topics import reach, tail
    from streams.validate import review

    if (file is None) == (topic is None):
        raise click.UsageError("name one of FILE and --topic")
    if topic is not None:
        reach(settings)
    with progress("read") as one:
        records = tail(settings, topic, follow=False) if topic is not None else read(str(file))
        report = review(_counted(records, one), settings.policy, settings.limits)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
        return 1 if report.rejected else 0
    for refusal in report.rejected:
        click.secho(f"rejected   {refusal.count:>6} x {refusal.reason}: {refusal.detail} (first: {refusal.place})", fg="red")
    for s in report.suspicions:
        click.secho(f"suspicious {s.count:>6} x {s.code}: {s.advice} (first: {s.place})", fg="yellow")
    click.echo(f"{report.messages} messages of {report.calls} calls, {sum(r.count for r in report.rejected)} would be rejected")
    return 1 if report.rejected else 0


@cli.command(epilog=examples("callpulse doctor", "callpulse doctor --device cuda --json"))
@takes(*BROKER, *MODEL, "rules", "text")
@click.option("--json", "as_json", is_flag=True, help="one object a check")
def doctor(settings: Settings, as_json: bool) -> int:
    """Look for what a worker needs: broker, topics, rules, model, device. Exit code 1 when something is missing."""
    from streams.doctor import examine

    failed = False
    for check in examine(settings, _load):
        failed |= check.state == "failed"
        colour = {"ok": "green", "failed": "red"}.get(check.state, "yellow")
        if as_json:
            click.echo(json.dumps(asdict(check)))
        else:
            click.secho(f"{check.state:<8}", fg=colour, nl=False)
            click.echo(f"{check.name:<9} {check.detail}")
    return 1 if failed else 0


@cli.command(epilog=examples("callpulse contract", "callpulse contract callpulse.alert.v1 > alert.schema.json"))
@click.argument("name", default="asyncapi")
def contract(name: str) -> int:
    """Print the AsyncAPI document of the topics, or the JSON Schema of a message by its NAME.

    A message names its schema in `schema`; the CloudEvents header ce_dataschema is the schema's $id. The documents lie in the
    package, in streams/schemas.
    """
    from streams import contract as documents

    names = [file.removesuffix(".json") for file in documents.documents()]
    if name not in names:
        raise SettingsError(f"{name!r} is none of {', '.join(names)}")
    click.echo(documents.shipped(name), nl=False)
    return 0


@contextmanager
def progress(verb: str) -> Iterator[Callable[[], None]]:
    """A counter on a terminal's standard error; silent elsewhere."""
    count, shown = itertools.count(1), sys.stderr.isatty()

    def one() -> None:
        n = next(count)
        if shown and n % 50 == 0:
            click.echo(f"\r{verb} {n:,}", nl=False, err=True)

    yield one
    if shown:
        click.echo("\r" + " " * 30 + "\r", nl=False, err=True)


def _counted(records: Iterable[Record], one: Callable[[], None]) -> Iterator[Record]:
    for record in records:
        one()
        yield record


def _load(settings: Settings) -> Any:
    import models

    return models.load(
        settings.model,
        settings.device,
        labels=_labels(settings),
        threads=settings.threads or None,
        budget=settings.batch_tokens or None,
        precision=settings.precision,
        runtime=settings.runtime,
    )


def _labels(settings: Settings) -> tuple[str, ...] | None:
    return tuple(settings.labels.split(",")) if settings.labels else None


alerts_cli.register(cli, takes, BROKER, examples)
rejected_cli.register(cli, takes, BROKER, progress, examples)
replay_cli.register(cli, takes, BROKER, progress, examples)
cli.add_command(rules_cli.group(takes, MODEL, _load, examples))
cli.add_command(backtest_cli.command(takes, MODEL, _load, progress, examples))


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    try:
        code = cli.main(args=arguments, prog_name="callpulse", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (CallpulseError, ModelError) as error:
        _last_word(str(error))
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        kafka = sys.modules.get("kafka.errors")  # not imported for the commands that do without it
        if kafka is None or not isinstance(error, kafka.KafkaError):
            raise
        from streams.access import denied

        text = denied(error) or f"the Kafka broker did not do what was asked: {error!r}"
        _last_word(text)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _last_word(text: str) -> None:
    if logs.machine_reads():
        logging.getLogger("callpulse").critical("%s", text)
    else:
        click.secho(f"callpulse: {text}", fg="red", err=True)
