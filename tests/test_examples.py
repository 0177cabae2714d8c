import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from models.examples import Example, read_examples, read_rows, sample

DATA = Path(__file__).parents[1] / "models" / "data"


@pytest.mark.parametrize(("count", "copies"), [(None, {1}), (0, {0}), (3, {0, 1}), (5, {1}), (12, {2, 3})])
def test_a_sample_repeats_no_row_before_all_are_used(count: int | None, copies: set[int]) -> None:
    rows = [Example(str(n), 0) for n in range(5)]
    drawn = sample(rows, count, random.Random(1))
    assert len(drawn) == (5 if count is None else count)
    assert {drawn.count(row) for row in rows} == copies
    assert sample([], count, random.Random(1)) == []


def test_data_may_be_gzipped_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write('{"text": "감사", "label": "positive", "by": "us"}\n\n{"text": "no", "label": "negative", "kind": "trap"}\n')
    assert read_examples(path) == [Example("감사", 2), Example("no", 0, "trap")]


@pytest.mark.parametrize("row", [{"text": "x", "label": "happy"}, {"text": "x"}])
def test_a_bad_label_is_refused_by_file_and_line(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": "neutral"}\n' + json.dumps(row))
    with pytest.raises(ValueError, match=rf"rows\.jsonl:2: label {row.get('label')!r} is none of negative"):
        read_examples(path)


@pytest.mark.parametrize(("line", "said"), [("{", "no JSON"), ("[]", "no JSON object"), ("{}", "text is not")])
def test_a_line_that_is_no_row_is_refused_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=rf"rows\.jsonl:1: {said}"):
        read_examples(path)


def test_unlabelled_text_needs_no_label_but_keeps_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n{"text": "y", "label": "negative"}')
    assert read_examples(path, labelled=False) == [Example("x", None), Example("y", 0)]


def test_a_whole_call_is_its_turns(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"call_id": "c", "turns": [{"text": "x", "label": "neutral"}, {"text": "y", "label": "positive"}]}')
    assert read_examples(path) == [Example("x", 1, "routine"), Example("y", 2)]
    assert [example.routine for example in read_examples(path)] == [True, False]


def turns(language: str, split: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(DATA / f"turns_{language}_{split}.jsonl")]


def calls(language: str, split: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(DATA / f"calls_{language}_{split}.jsonl")]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_our_turns_are_many_and_no_scenario_is_on_both_sides(language: str) -> None:
    train, dev = turns(language, "train"), turns(language, "dev")
    assert len(train) + len(dev) >= 1500
    assert not {row["scenario"] for row in train} & {row["scenario"] for row in dev}
    assert {row["language"] for row in train + dev} == {language}
    assert {row["speaker"] for row in train + dev} == {"agent", "bot", "customer"}
    neutral = [row["label"] == "neutral" for row in train + dev if row["kind"] in ("routine", "trap", "empathy")]
    assert all(neutral)
    assert len(neutral) > 800


@pytest.mark.parametrize(("language", "least"), [("en", 60), ("ko", 40)])
def test_half_of_our_calls_are_set_aside_and_half_are_routine(language: str, least: int) -> None:
    train, test = calls(language, "train"), calls(language, "test")
    assert len(train) + len(test) >= least
    assert len(train) == len(test)
    for side in (train, test):
        assert sum(call["routine"] for call in side) * 2 == len(side)
    for call in train + test:
        assert 20 <= len(call["turns"]) <= 60
        assert bool(call["alerts"]) != call["routine"]
        assert all(0 <= alert["turn"] < len(call["turns"]) and alert["reason"] for alert in call["alerts"])
        assert {call["turns"][alert["turn"]]["speaker"] for alert in call["alerts"]} <= {"customer"}  # whom a worker scores


@pytest.mark.parametrize("path", sorted(DATA.glob("*.jsonl")), ids=lambda path: path.stem)
def test_all_that_we_wrote_can_be_read(path: Path) -> None:
    assert len(read_examples(path)) > 500


@pytest.mark.parametrize("line", ['{"turns": 12}', '{"turns": ["x"]}', '{"turns": [{"label": "neutral"}]}'])
def test_a_call_without_proper_turns_is_refused_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=r"calls\.jsonl:1: (turns|text) is not"):
        read_examples(path)
