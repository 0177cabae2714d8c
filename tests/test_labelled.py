"""Files for a backtest: which kind one is, how labelled calls are spoken, which turn a label means."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import event, scored

from streams import recording
from streams.backtest import play
from streams.conversation import Limits
from streams.errors import RecordingError
from streams.grading import Marked
from streams.labelled import labels_of, marked, opened
from streams.records import Record, Segment
from streams.rules import load
from streams.wire import decode, encode

DATA = Path(__file__).parents[1] / "models" / "data"
CALL = {
    "call_id": "x",
    "language": "ko",
    "routine": False,
    "turns": [
        {"speaker": "agent", "text": "one two three four five", "label": "neutral"},
        {"speaker": "customer", "text": "네네"},
    ],
    "alerts": [{"turn": 1, "reason": "why"}, {"turn": 1, "reason": "again"}],
}


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_labelled_call_is_spoken(tmp_path: Path) -> None:
    file = opened(lines(tmp_path / "calls.jsonl", CALL, CALL | {"call_id": "y", "turns": [], "alerts": [], "routine": True}))
    assert not file.scored
    assert file.labels == {"x": Marked((1,), False), "y": Marked((), True)}
    records = [*file.records]
    assert [(r.partition, r.offset, r.timestamp, r.key) for r in records] == [
        (0, 0, 0, b"x"),
        (0, 1, 2_500, b"x"),
        (0, 2, 3_500, b"x"),
        (0, 3, 4_000, b"x"),
        (1, 0, 0, b"y"),
        (1, 1, 500, b"y"),
    ], "half a second before each turn; 0.4 s a word, 0.25 s a syllable, whoever speaks"
    segments = [decode(record.value) for record in records]
    assert segments[1] == Segment(
        call_id="x",
        segment_id="s0",
        speaker="agent",
        text="one two three four five",
        start_ms=500,
        end_ms=2_500,
        language="ko",
    )
    assert [s.type for s in segments if isinstance(s, Segment)] == ["start", "segment", "segment", "end", "start", "end"]


def test_all_the_calls_of_our_own_are_read() -> None:
    files = [opened(str(path)) for path in sorted(DATA.glob("calls_*.jsonl"))]
    assert sum(len(file.labels) for file in files) == 100
    assert sum(bool(label.routine) for file in files for label in file.labels.values()) == 50
    said = [decode(record.value) for file in files for record in file.records]
    assert sum(isinstance(segment, Segment) and segment.type == "segment" for segment in said) == 1_688 + 1_678


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (CALL | {"turns": [{"speaker": "nobody", "text": ""}]}, "line 1: not a labelled call"),
        (CALL | {"alerts": [{"turn": 2}]}, "line 1: alerts: no turn 2 in a call of 2"),
        (CALL | {"alerts": [{"turn": -1}]}, "no turn -1"),
    ],
)
def test_a_labelled_call_that_is_none(tmp_path: Path, call: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        opened(lines(tmp_path / "calls.jsonl", call))


def test_two_calls_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 2: there is a call x already"):
        opened(lines(tmp_path / "calls.jsonl", CALL, CALL))


def test_what_is_scored_already_is_known(tmp_path: Path) -> None:
    path, turn = tmp_path / "values.jsonl", scored(0, 0.0)
    path.write_bytes(b"\n".join(map(encode, (turn, event(1, "end")))))
    assert opened(str(path)).scored
    path.write_bytes(encode(Segment(call_id="c", text="hello")))
    assert not opened(str(path)).scored
    path.write_text("Agent: hello\nCustomer: hello")
    file = opened(str(path))
    assert (file.scored, len([*file.records])) == (False, 4)
    path.write_text("")
    assert [*opened(str(path)).records] == []


def test_what_is_no_segment_at_first_decides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sentiment.jsonl"
    values = [("calls.sentiment", b"junk"), ("calls.sentiment", encode(scored(1, 0.0))), ("other", encode(scored(2, 0.0)))]
    records = [Record(topic, 0, n, 0, None, value) for n, (topic, value) in enumerate(values)]
    path.write_bytes(b"".join(map(recording.write, records)))
    file = opened(str(path))
    assert file.scored
    assert [*file.records] == records[:2], "one topic of them"


def test_labels_name_turns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"call_id": "call-1", "turn": 3, "reason": "why"},
        {"call_id": "call-1", "segment_id": "s0"},
        {"call_id": "call-1", "at_ms": 14_000},
        {"call_id": "call-1", "at_ms": 14_001},
        {"call_id": "call-2", "at_ms": 99_000},
        {"call_id": "call-2", "routine": False},
        {"call_id": "call-3", "routine": True},
        {"call_id": "gone", "turn": 7},
    ]
    turns = [
        scored(n, 0.0, call_id=f"call-{call}") for call, n in ((1, 0), (1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (3, 6), (4, 7))
    ]
    (played,) = play([(0, turn) for turn in turns], Limits(), [load(None)])
    assert marked(labels_of(lines(tmp_path / "labels.jsonl", *rows)), played.courses) == {
        "call-1": Marked((0, 1, 2, 3)),
        "call-2": Marked((1,), False),
        "call-3": Marked((), True),
    }


@pytest.mark.parametrize("place", [{"turn": 1}, {"turn": -1}, {"segment_id": "s9"}])
def test_a_label_of_a_turn_that_is_not_there(tmp_path: Path, place: dict[str, Any]) -> None:
    (played,) = play([(0, scored(0, 0.0))], Limits(), [load(None)])
    with pytest.raises(RecordingError, match=r"call call-1 has no (turn|segment) .*: it has 1 turn"):
        marked(labels_of(lines(tmp_path / "labels.jsonl", {"call_id": "call-1"} | place)), played.courses)


@pytest.mark.parametrize("row", [{"turn": 1}, {"call_id": "c", "seconds": 1}, {"call_id": "c", "turn": "one"}, []])
def test_a_line_that_is_no_label(tmp_path: Path, row: Any) -> None:
    path = lines(tmp_path / "labels.jsonl", {"call_id": "c"}, row)
    with pytest.raises(RecordingError, match=r"labels\.jsonl, line 2: not a label"):
        labels_of(path)
