"""`callpulse rules`: check files, explain a recorded call, print the schema. `cli` registers it.

Exit codes: 0 all is well, 1 something is wrong with the rules, 2 wrong usage.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from streams.settings import Settings

Load = Callable[[Settings], Any]
STYLES = {"critical": "red", "warning": "yellow", "info": "cyan"}


def group(takes: Callable[..., Any], model: Sequence[str], load: Load, examples: Callable[..., str]) -> click.Group:
    """The commands; `takes(*names)` gives one its settings' flags, `model` names those of the model that `load` loads."""

    @click.group()
    def rules() -> None:
        """Check a rules file, see what rules saw in a call, print the schema."""

    @rules.command("check", epilog=examples("callpulse rules check rules.yaml", "callpulse rules check rules/ --json"))
    @click.argument("path", type=click.Path(path_type=Path))
    @click.option("--json", "as_json", is_flag=True, help="print one object with the rules, or with all that is wrong")
    def check_command(path: Path, as_json: bool) -> int:
        """Say what is wrong with a rules file or a folder of *.yaml, and the way out; exit code 1 if anything is."""
        return check(path, as_json)

    @rules.command(
        "explain",
        epilog=examples(
            "callpulse rules explain call.jsonl", "callpulse rules explain call.jsonl --rules my.yaml --rule churn"
        ),
    )
    @takes("rules", "score_speakers", "grace_s", "voice_silence_s", *model)  # type: ignore[untyped-decorator]
    @click.argument("recording", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
    @click.option("--rule", "names", multiple=True, metavar="NAME", help="only this rule; may be given again")
    @click.option("--json", "as_json", is_flag=True, help="one object a turn")
    def explain_command(settings: Settings, recording: str, names: Sequence[str], as_json: bool) -> int:
        """Say, turn by turn, what each rule saw in a recorded call.

        A RECORDING is what `replay` takes, scored here by the model, or a recording of calls.sentiment, which is scored
        already. What was said is printed. A condition's line says + where it holds, - where not, and [what it compared].
        """
        return explain(settings, recording, names, as_json, load)

    @rules.command("schema", epilog=examples("callpulse rules schema > rules.schema.json"))
    def schema_command() -> int:
        """Print the JSON Schema of a rules file, by which editors complete it and check it.

        With the YAML language server (VS Code's YAML extension, and others), begin the rules file with this line:

        \b
          # yaml-language-server: $schema=rules.schema.json
        """
        from streams.rules import schema

        click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
        return 0

    return rules


def check(path: Path, as_json: bool) -> int:
    from streams import rules

    found, faults = rules.check(path)
    if as_json:
        listed = [{"name": r.ref.name, "version": r.ref.version, "severity": r.severity} for r in found.rules] if found else []
        hashed = found.hash if found else None
        click.echo(json.dumps({"hash": hashed, "rules": listed, "faults": [asdict(f) for f in faults]}, ensure_ascii=False))
        return 1 if faults else 0
    for fault in faults:
        click.secho(str(fault), fg="red")
    if found is not None:
        names = ", ".join(f"{rule.ref.name} {rule.ref.version}" for rule in found.rules)
        click.echo(f"{len(found.rules)} rules, all is well (hash {found.hash}): {names}")
    return 1 if faults else 0


def explain(settings: Settings, recording: str, names: Sequence[str], as_json: bool, load: Load) -> int:
    from streams import explain as explaining
    from streams import rules
    from streams.errors import SettingsError
    from streams.recording import read

    found = rules.load(settings.rules_path)
    if unknown := [name for name in names if name not in found.names]:
        raise SettingsError(f"--rule {unknown[0]}: there are {', '.join(found.names)}")
    records = list(read(recording))
    scored = explaining.scored_records(records) or _scored(settings, records, load)
    for step in explaining.explained(scored, settings.limits, found, names):
        if as_json:
            click.echo(json.dumps(step.to_dict(), ensure_ascii=False))
        else:
            _print(step)
    return 0


def _scored(settings: Settings, records: Sequence[Any], load: Load) -> list[Any]:
    from datetime import datetime, timezone

    from streams.pipeline import score
    from streams.records import Scored

    results = score(records, load(settings), settings.policy, "recording", lambda: datetime.now(timezone.utc))
    return [result for result in results if isinstance(result, Scored)]


def _print(step: Any) -> None:
    from streams.explain import in_words
    from streams.live import clock, printable

    at, turn = f"{clock(step.at_ms):>5}", step.turn
    if turn is not None:
        score = f"{turn.sentiment.score:+.2f}" if turn.sentiment else "  -  "
        click.secho(f"{at} {printable(step.call_id)} {turn.speaker} {score} {printable(turn.text)}", bold=True)
    for view in step.views:
        click.echo(f"      {view.rule}: {view.state}; when {in_words(view.when)}", nl=view.until is None or view.state == "no")
        if view.until is not None and view.state != "no":
            click.echo(f"; until {in_words(view.until)}")
    for alert in step.alerts:
        said = f"{at} {alert.event} {alert.severity} {alert.rule.name}: {printable(alert.reason)}"
        click.secho(said, fg="green" if alert.event == "resolve" else STYLES[alert.severity])
