"""The board and what is drawn of it: repeats change nothing, columns hold whatever is said, a terminal is never commanded."""

import io
from datetime import datetime, timezone

import pytest
from builders import scored, sentiment
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console, RenderableType

from streams.live import ALERTS, BLOCKS, LABELS, SPARKS, Board, View, calls_table, clock, line, screen, spark
from streams.records import Alert, Band, Evidence, RuleRef, SpeakerSummary, Summary

AT = datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc)
HANGUL = "아니 이게 벌써 열흘째예요 진짜 너무하시네 지금 장난하세요 책임자 바꿔 주세요 빨리 좀 해 주세요"
WIDTH = 100


def alert(number: int = 1, sequence: int = 1, event: str = "open", **given: object) -> Alert:
    said = Evidence("s1", "customer", 1000, 2000, -0.9, "negative", f"quote {number}")
    made = Alert(
        alert_id=f"{number:032}",
        sequence=sequence,
        event=event,  # type: ignore[arg-type]
        status="resolved" if event == "resolve" else "open",
        rule=RuleRef("sharp_drop", 1),
        severity="warning",
        call_id="call-1",
        at_ms=number * 1000,
        at=AT,
        at_source="call",
        reason=f"reason {number}.{sequence}",
        evidence=() if event == "resolve" else (said,),
    )
    return replace(made, **given)  # type: ignore[arg-type]


def summary(call_id: str = "call-1", score: float | None = -1.7, **given: object) -> Summary:
    customer = SpeakerSummary(segments=3, negative=1, neutral=1, positive=1, score=score, trend=0, quarters=(), talk_ms=9000)
    made = Summary(
        call_id=call_id,
        channel="voice",
        started_at=AT,
        ended_at=AT,
        at_source="call",
        ended_by="end",
        reason="dropped",
        duration_ms=199_000,
        speakers={"customer": customer},
        silence_ms=0,
        overlap_ms=0,
        alerts=(),
        attributes={},
    )
    return replace(made, **given)  # type: ignore[arg-type]


def drawn(renderable: RenderableType, width: int = WIDTH) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


def test_a_turn_is_a_block_whose_height_is_its_score_and_whose_colour_is_its_label() -> None:
    turns = [sentiment(score) for score in (-1, -0.6, 0, 0.6, 1)]
    picture = spark(turns)
    heights = [BLOCKS.index(block) for block in picture.plain]
    assert heights == sorted(set(heights))
    assert (heights[0], heights[-1]) == (0, len(BLOCKS) - 1)
    assert [span.style for span in picture.spans] == [LABELS[turn.label] for turn in turns]


def test_the_latest_turns_are_shown_when_there_are_too_many() -> None:
    assert spark([sentiment(-1)] * 5 + [sentiment(1)] * SPARKS).plain == BLOCKS[-1] * SPARKS


def test_only_scored_turns_of_the_customer_are_shown() -> None:
    board = Board()
    assert board.add(scored(1, -0.9, text="mine"))
    assert not board.add(scored(2, 0.9, speaker="agent", text="theirs"))
    assert not board.add(scored(3, None, skipped="empty", text=""))
    row = board.calls["call-1"]
    assert [turn.score for turn in row.turns.values()] == [-0.9]
    assert (row.said, row.at_ms) == ("mine", 34_000)


def test_a_repeat_changes_nothing() -> None:
    board = Board()
    records = [scored(1, -0.9), alert(), alert(sequence=2, event="resolve"), summary()]
    assert [board.add(record) for record in records] == [True] * 4
    before = drawn(screen(board, "", 40))
    assert [board.add(record) for record in records] == [False] * 4
    assert drawn(screen(board, "", 40)) == before


def test_the_newest_alert_is_on_top_and_keeps_its_quotes_when_it_resolves() -> None:
    board = Board()
    for record in (alert(1), alert(2), alert(1, 2, "resolve")):
        board.add(record)
    shown = [text.strip("│ ") for text in drawn(screen(board, "", 40)) if "reason" in text or "quote" in text]
    assert [text.split("  ")[-1].split(" sharp")[0] for text in shown[::2]] == ["reason 1.2", "reason 2.1"]
    assert shown[1::2] == ["-0.90 “quote 1”", "-0.90 “quote 2”"]


@pytest.mark.parametrize("height", [24, 30, 40, 60])
def test_the_screen_fits_the_terminal(height: int) -> None:
    board = Board()
    for number in range(8):
        board.add(scored(number, 0.1, call_id=f"call-{number}"))
    for number in range(20):
        quotes = alert(number).evidence * 5
        board.add(alert(number, call_id=f"call-{number % 8}", evidence=quotes))
    lines = drawn(screen(board, "status", height))
    assert len(lines) < height
    assert sum("reason" in text for text in lines) == min(ALERTS, (height - 14) // 3)


@given(st.lists(st.text(max_size=60) | st.sampled_from([HANGUL, "short", "[red]x[/] \x1b[2J\r\n"]), min_size=1, max_size=4))
def test_columns_hold_whatever_is_said(texts: list[str]) -> None:
    board = Board()
    for number, text in enumerate(texts):
        board.add(scored(number, -0.9, text=text, call_id=f"call-{number}"))
        quote = Evidence("s1", "customer", 1000, 2000, -0.9, "negative", text)
        board.add(alert(number, reason=text, call_id=f"call-{number}", evidence=(quote,)))
    lines = drawn(screen(board, "", 40))
    head = next(text for text in lines if text.startswith("call "))
    for at, blocks in ((head.index("the customer's"), BLOCKS), (head.index("alerts"), "●")):
        for row in lines[3 : 3 + len(texts)]:
            assert row[at] in blocks
    assert {cell_len(text) for text in lines[3:]} == {WIDTH}
    assert all(c.isprintable() for text in lines for c in text)


def test_hangul_is_cut_to_its_width_on_the_screen() -> None:
    board = Board()
    board.add(scored(1, -0.9, text=HANGUL * 3))
    row = drawn(calls_table(board))[1]
    assert row.rstrip().endswith("…")
    assert WIDTH - 2 <= cell_len(row.rstrip()) <= WIDTH


def test_a_call_shows_its_gravest_open_alert_and_in_the_end_how_it_ended() -> None:
    board = Board(suffix="-7f3a")
    board.add(alert(1, call_id="en-1-7f3a"))
    board.add(alert(2, severity="critical", call_id="en-1-7f3a"))
    assert "● critical" in drawn(calls_table(board))[1]
    board.add(alert(2, 2, "resolve", severity="critical", call_id="en-1-7f3a"))
    assert "● warning" in drawn(calls_table(board))[1]
    board.add(alert(1, 2, "resolve", call_id="en-1-7f3a"))
    board.add(summary("en-1-7f3a"))
    row = drawn(calls_table(board))[1]
    assert row.startswith("en-1 ")
    assert "3:19" in row
    assert "○ resolved" in row
    assert "over: dropped" in row


def test_a_line_says_what_the_event_is_and_quotes_what_opened_it() -> None:
    board = Board(suffix="-7f3a")
    opened = " 1:01 en-1            open warning sharp_drop: reason 61.1 “quote 61”"
    assert line(board, alert(61, call_id="en-1-7f3a")) == opened
    assert "“" not in line(board, alert(61, 2, "resolve"))
    over = " 3:19 en-1            call over: dropped; customer -1.7 on a scale of -5 to 5; alerts: 0"
    assert line(board, summary("en-1-7f3a")) == over
    assert "silence; customer not scored" in line(board, summary(score=None, ended_by="silence", reason=None))


def test_clock_counts_minutes_and_seconds() -> None:
    assert [clock(ms) for ms in (0, 59_999, 60_000, 754_321)] == ["0:00", "0:59", "1:00", "12:34"]


def test_without_a_terminal_every_event_is_one_plain_line() -> None:
    console = Console(file=io.StringIO(), width=40)
    with View(console, Board(), in_place=False) as view:
        view.say("begin")
        for record in (scored(1, -0.9), alert(reason="[bold]" + "long " * 30), alert(), summary()):
            view.saw(record)
        view.draw("more")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [text.split()[:3] for text in lines] == [["begin"], ["0:01", "call-1", "open"], ["3:19", "call-1", "call"]]
    assert "[bold]long" in lines[1]


def test_on_a_terminal_the_board_is_redrawn_in_place() -> None:
    console = Console(file=io.StringIO(), width=WIDTH, height=40, force_terminal=True, _environ={"TERM": "xterm"})
    with View(console, Board(), in_place=True) as view:
        view.say("begin")
        view.saw(scored(1, -0.9, text="first"))
        view.draw()
        view.saw(scored(2, 0.9, text="second"))
        view.draw("12 s")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1A" in text
    assert "begin  12 s" in text
    assert text.rindex("second") > text.rindex("first")


@pytest.mark.parametrize(
    ("direction", "said"),
    [("worsening", "-5 to 5 and worsening;"), ("steady", "-5 to 5;"), ("improving", "-5 to 5 and improving;")],
)
def test_the_end_of_a_call_says_where_the_customers_mood_went(direction: Band, said: str) -> None:
    speakers = {name: replace(speaker, direction=direction) for name, speaker in summary().speakers.items()}
    assert said in line(Board(), summary(speakers=speakers))
