"""What the demo counts and says: an undisturbed run is flawless, and whatever is lost, doubled or made up shows."""

import dataclasses
import json
import shlex
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_live import drawn, summary

from models.sentiment import LexiconScorer
from streams import demo
from streams.cli import cli
from streams.conversation import Limits
from streams.ending import after_kill, end_table, figures, next_steps, word_on_irony
from streams.live import Board
from streams.pipeline import Policy, judged, score
from streams.recording import read
from streams.records import RaisedAlert, Record, Rejected, Scored
from streams.replay import merge
from streams.tally import Report, Tally, percentile
from streams.wire import cloud_event, encode, partition_of, rejection

SENT_S = 1_700_000_000.0
LIMITS = Limits(grace_ms=2000)
PARTITIONS = 4
REPORT = Report(346, 163, 183, 0, 4, 8, 12.3, 45.6, 31.2, 0, 7, 1, 0, 0, 4.5)


def sent(partitions: int) -> list[Record]:
    """The bundled calls and one bad message, as they lie in calls.segments."""
    records = merge([read(path) for path in sorted(demo.CALLS.glob("*.jsonl"))], 1.0)
    bad = Record("segments", 0, 0, 0, b"en-resolved", b"not json")
    ends = [0] * partitions
    placed = []
    for record in [*records, bad]:
        partition = partition_of((record.key or b"").decode(), partitions)
        placed.append(replace(record, partition=partition, offset=ends[partition]))
        ends[partition] += 1
    return placed


def outputs(records: list[Record]) -> list[tuple[str, Record]]:
    """What a worker publishes for them: the topic's short name and the record."""
    now = datetime.fromtimestamp(SENT_S + 0.05, timezone.utc)
    results = list(zip(records, score(records, LexiconScorer(), Policy(), "topic", lambda: now), strict=True))
    outcome = judged((r for _, r in results if isinstance(r, Scored)), LIMITS)
    out = []
    for record, result in results:
        if isinstance(result, Rejected):
            out.append(("rejected", replace(record, headers=tuple(rejection(record, result, "score")))))
        else:
            partition = partition_of(result.call_id, PARTITIONS)
            out.append(("sentiment", replace(record, partition=partition, value=encode(result))))
    for name, events in (("alerts", outcome.alerts), ("summaries", outcome.summaries)):
        for event in events:
            out.append((name, Record(name, 0, 0, 0, event.call_id.encode(), encode(event), tuple(cloud_event(event)))))
    return out


SENT = sent(PARTITIONS)
OUT = outputs(SENT)


def tallied(out: list[tuple[str, Record]]) -> Tally:
    tally = Tally()
    for record in SENT:
        tally.handed(record, SENT_S)
    for name, record in out:
        tally.read(name, record, SENT_S + 2)
    return tally


def report(out: list[tuple[str, Record]]) -> Report:
    return tallied(out).report(LIMITS, SENT_S + 30)


def scored_turn() -> tuple[str, Record]:
    return next(entry for entry in OUT if entry[0] == "sentiment" and b'"sentiment":{' in (entry[1].value or b""))


def test_an_undisturbed_run_is_flawless_and_adds_up() -> None:
    found = report(OUT)
    assert found.flawless
    assert found.segments == len(SENT) == found.scored + found.skipped + found.rejected
    assert (found.rejected, found.calls, found.seconds, found.first_alert_s) == (1, 8, 30, 2)
    assert found.alerts == sum(name == "alerts" for name, _ in OUT) > 0
    assert found.p50_ms == found.p99_ms == 50
    assert (found.lost, found.scored_twice, found.alerts_twice) == (0, 0, 0)


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_topics_are_read_does_not_matter(random: Random) -> None:
    """Within a topic's partition it is kept, as Kafka keeps it."""
    lanes: dict[tuple[str, int], list[tuple[str, Record]]] = {}
    for entry in OUT:
        lanes.setdefault((entry[0], entry[1].partition), []).append(entry)
    turns = [key for key, lane in lanes.items() for _ in lane]
    random.shuffle(turns)
    assert report([lanes[key].pop(0) for key in turns]) == report(OUT)


def test_a_partition_of_segments_may_feed_several_of_sentiment() -> None:
    assert report(sorted(outputs(sent(partitions=1)), key=lambda entry: entry[1].partition)).flawless


def test_a_lost_turn_is_counted() -> None:
    found = report([entry for entry in OUT if entry != scored_turn()])
    assert (found.lost, found.flawless) == (1, False)


def test_a_repeat_is_counted_beside_and_changes_nothing_else() -> None:
    alert = next(entry for entry in OUT if entry[0] == "alerts")
    rejected = next(entry for entry in OUT if entry[0] == "rejected")
    over = next(entry for entry in OUT if entry[0] == "summaries")
    found = report([*OUT, scored_turn(), alert, alert, rejected, over])
    assert found == dataclasses.replace(report(OUT), scored_twice=1, alerts_twice=2)
    assert found.flawless


def test_an_alert_that_is_missing_or_made_up_is_counted() -> None:
    alerts = [entry for entry in OUT if entry[0] == "alerts"]
    made_up = replace(alerts[0][1], headers=(("ce_id", b"made up"),))
    found = report([("alerts", made_up), *(entry for entry in OUT if entry != alerts[0])])
    assert (found.alerts_missing, found.alerts_extra, found.flawless) == (1, 1, False)


def test_a_run_is_complete_with_the_last_message_and_the_last_call() -> None:
    last_turn = [entry for entry in OUT if entry != scored_turn()]
    last_call = [entry for entry in OUT if entry[0] != "summaries"] + [e for e in OUT if e[0] == "summaries"][1:]
    no_bad = [entry for entry in OUT if entry[0] != "rejected"]
    assert tallied(OUT).complete
    for missing in (last_turn, last_call, no_bad):
        assert not tallied(missing).complete


def test_what_the_judge_rejects_is_counted_once() -> None:
    record = replace(scored_turn()[1], topic="calls.sentiment")
    refused = replace(record, headers=tuple(rejection(record, Rejected("call_ended", ""), "judge")))
    assert report([*OUT, ("rejected", refused)]) == report(OUT)


def test_the_json_object_has_the_promised_fields() -> None:
    plain = ["segments", "scored", "skipped", "rejected", "alerts", "calls", "p50_ms", "p99_ms", "seconds"]
    killed = ["lost", "scored_twice", "alerts_twice", "alerts_missing", "alerts_extra"]
    assert list(json.loads(json.dumps(REPORT.summary(killed=False)))) == plain
    assert list(REPORT.summary(killed=True)) == plain + killed


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1, 100)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected
    assert percentile([1, 2, 3], 0.5) == 2
    assert percentile([7.04], share) == 7.0
    assert percentile([], share) is None


def test_the_table_has_a_line_an_alert_and_the_time_when_it_opened() -> None:
    board = Board(suffix="-7f3a")
    raised = (RaisedAlert("1", "sharp_drop", "warning", 168_194), RaisedAlert("2", "sustained_negative", "critical", 182_567))
    board.add(summary("ko-b-7f3a", alerts=raised))
    board.add(summary("en-a-7f3a", score=None, reason=None, ended_by="silence"))
    rows = [text.split() for text in drawn(end_table(board))]
    assert rows[2:] == [
        ["en-a", "silence", "none", "none"],
        ["ko-b", "dropped", "-1.7", "sharp_drop,", "warning", "168", "s"],
        ["sustained_negative,", "critical", "183", "s"],
    ]


def test_the_table_fits_a_narrow_terminal() -> None:
    board = Board()
    raised = (RaisedAlert("1", "sustained_negative", "critical", 168_194),)
    board.add(summary("en-bot-dropped", reason="customer_hangup", alerts=raised))
    assert all("…" not in text for text in drawn(end_table(board), width=80))


def test_the_word_on_irony_follows_the_result() -> None:
    def word(score: float | None, alerts: int) -> str:
        board = Board(suffix="-1")
        board.add(summary("en-sarcastic-1", score=score, alerts=(RaisedAlert("1", "r", "warning", 0),) * alerts))
        return word_on_irony(board, demo.SARCASTIC)

    assert "took the irony for praise (+2.2 on a scale of -5 to 5) and raised no alert" in word(2.2, 0)
    assert "not altogether taken in (-1.0 on a scale of -5 to 5) and raised 1 alert," in word(-1.0, 1)
    assert "raised 2 alerts," in word(-1.0, 2)
    assert word(None, 0) == word_on_irony(Board(), demo.SARCASTIC) == ""


def test_the_figures_are_said_in_words() -> None:
    assert "346 segments of 8 calls in 31.2 s; the first alert came 4.5 s after" in figures(REPORT)
    assert figures(dataclasses.replace(REPORT, first_alert_s=None, p50_ms=None)) == "346 segments of 8 calls in 31.2 s."
    said = after_kill(REPORT, 9.87)
    assert "back after 9.9 s. Of 346 segments 0 were lost" in said
    assert "7 turns" in said
    assert all(f"{n} " in after_kill(dataclasses.replace(REPORT, lost=n), 1) for n in (11, 12))


@pytest.mark.parametrize("program", ["callpulse", ".venv/bin/callpulse"])
def test_what_to_try_next_can_be_typed(program: str) -> None:
    commands = [shlex.split(text) for text in next_steps(program).splitlines() if text.startswith(f"  {program}")]
    commands += [shlex.split(text.split("`")[1]) for text in next_steps(program).splitlines() if "`" in text]
    assert [command[1] for command in commands] == ["score", "worker", "replay", "alerts"]
    for _, name, *arguments in commands:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {a for a in arguments if a.startswith("--")} <= known
        assert isinstance(cli.commands[name], click.Command)


def test_the_program_is_named_as_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [".venv/bin/callpulse", "demo"])
    assert demo.program() == ".venv/bin/callpulse"
    monkeypatch.setattr("sys.argv", ["/somewhere/streams/__main__.py", "demo"])
    assert demo.program() == "python -m streams"
    (tmp_path / "callpulse").touch(mode=0o755)
    assert demo.program() == "callpulse"


def test_the_bundled_calls_are_there_with_the_sarcastic_one() -> None:
    names = [path.stem for path in demo.CALLS.glob("*.jsonl")]
    assert len(names) == 8
    assert demo.SARCASTIC in names
    assert asdict(demo.Options()) == {"speed": 8.0, "kill": False, "json": False, "own_broker": True}
