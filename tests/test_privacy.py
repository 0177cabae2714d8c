"""What leaves the worker with --redact and with --no-text, without a broker: nothing that was masked, and the same scores."""

import json

import pytest
from builders import NOW, T0, event, scored
from msgspec.structs import replace

from models.sentiment import LexiconScorer
from streams.conversation import Limits
from streams.live import Board, line, screen
from streams.outcome import Outcome
from streams.pipeline import Calls, Policy, score
from streams.records import Record, Scored
from streams.redact import Mask, hidden, kept, redact
from streams.wire import encode

NUMBER = "공일공 이삼사오 육칠팔구"
TEXT = f"awful, my number is {NUMBER}"


def judging(mask: Mask, calls: Calls | None = None, begin: int = 0) -> tuple[Calls, Outcome]:
    calls, outcome = calls or Calls(Limits(), 1, mask=mask), Outcome()
    for n in range(begin, begin + 8):
        calls.judge(scored(n, -0.9, text=TEXT), outcome)
    return calls, outcome


def written(outcome: Outcome) -> str:
    records = [*outcome.alerts, *outcome.summaries, *filter(None, outcome.changed.values())]
    return b"\n".join(map(encode, records)).decode()


@pytest.mark.parametrize(("mask", "text"), [(kept, TEXT), (redact, "awful, my number is [phone]"), (hidden, "")])
def test_a_text_is_scored_whole_and_published_masked(mask: Mask, text: str) -> None:
    messages = [{"call_id": "c", "speaker": s, "text": TEXT, "final": s != "bot"} for s in ("customer", "agent", "bot")]
    records = [Record("t", 0, n, T0, None, json.dumps(message).encode()) for n, message in enumerate(messages)]
    found = score(records, LexiconScorer(), Policy(), "topic", lambda: NOW, mask)
    whole = score(records, LexiconScorer(), Policy(), "topic", lambda: NOW)
    assert [s.text for s in found if isinstance(s, Scored)] == [text] * 3
    assert [replace(s, text=TEXT) for s in found if isinstance(s, Scored)] == whole
    assert whole[0].sentiment is not None and whole[0].sentiment.label == "negative"  # type: ignore[union-attr]  # noqa: PT018


@pytest.mark.parametrize("mask", [redact, hidden])
def test_a_judge_masks_what_a_scorer_has_let_through(mask: Mask) -> None:
    calls, outcome = judging(mask)
    calls.judge(event(8, "end"), outcome)
    calls.tick({"topic:0": 1 << 62}, outcome)
    plain = judging(kept)[1]
    assert NUMBER in written(plain)
    assert NUMBER not in written(outcome)
    assert [(a.alert_id, a.event, a.values) for a in outcome.alerts][: len(plain.alerts)] == [
        (a.alert_id, a.event, a.values) for a in plain.alerts
    ]
    assert outcome.alerts[0].evidence != ()
    assert {turn.text for alert in outcome.alerts for turn in alert.evidence} == {mask(TEXT)}
    assert outcome.summaries != []


@pytest.mark.parametrize("mask", [redact, hidden])
def test_a_state_that_was_stored_with_its_texts_loses_them_when_it_is_next_touched(mask: Mask) -> None:
    before, stored = judging(kept)
    after = Calls(Limits(), 1, positions=before.positions, mask=mask)
    after.load([encode(call) for call in stored.changed.values() if call])
    _, outcome = judging(mask, after, begin=8)
    assert outcome.alerts != []
    assert NUMBER not in written(outcome)


def test_without_texts_the_board_shows_scores_and_no_quotation_marks() -> None:
    board, (_, outcome) = Board(), judging(hidden)
    for record in (*(scored(n, -0.9, text="") for n in range(3)), *outcome.alerts):
        board.add(record)
    lines = [line(board, alert) for alert in outcome.alerts]
    from rich.console import Console

    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(screen(board, "", 40))
    assert "“" not in capture.get() + "".join(lines)
    assert "-0.90" in capture.get()
