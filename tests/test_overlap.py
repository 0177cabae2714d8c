import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.overlap import Pair, main, near_duplicates, trigrams


def rows(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_case_punctuation_and_spaces_do_not_make_a_text_another() -> None:
    [pair] = near_duplicates(["The line is dead AGAIN!"], ["something else", "the line is dead again"])
    assert pair == Pair(1.0, "The line is dead AGAIN!", "the line is dead again")
    assert list(near_duplicates(["환불이 아직 안 됐어요"], ["환불이 아직 안됐어요"]))


def test_likeness_is_the_jaccard_index_of_trigrams() -> None:
    # abcdefgh: abc bcd cde def efg fgh; abcdefgx: abc bcd cde def efg fgx; 5 shared of 7
    [pair] = near_duplicates(["abcdefgh"], ["abcdefgx"])
    assert pair.likeness == pytest.approx(5 / 7, abs=1e-3)
    assert not list(near_duplicates(["abcdefgh"], ["abcdefgx"], least=0.8))


def test_what_everybody_says_is_not_counted() -> None:
    assert trigrams("yes, ok.") == frozenset()
    assert not list(near_duplicates(["okay"], ["okay"]))


@given(st.text(), st.text())
def test_likeness_is_symmetric_and_at_most_one(text: str, other: str) -> None:
    one = [pair.likeness for pair in near_duplicates([text], [other], least=0.01)]
    assert one == [pair.likeness for pair in near_duplicates([other], [text], least=0.01)]
    assert all(0 < likeness <= 1 for likeness in one)


def test_the_command_prints_pairs_and_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = rows(tmp_path / "ours.jsonl", "the line is dead again", "nobody came on tuesday")
    theirs = rows(tmp_path / "theirs.jsonl", "The line is dead again.")
    assert main([str(ours), "--against", str(theirs), "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["other"] == "The line is dead again."
    assert "1 of 2 texts are near-duplicates of 1 in" in said.err
    assert main([str(ours), "--against", str(rows(tmp_path / "none.jsonl", "quite another text"))]) == 0


@pytest.mark.parametrize("language", ["en", "ko"])
def test_no_held_out_turn_is_like_one_that_is_learnt(language: str) -> None:
    data = Path(__file__).parents[1] / "models" / "data"
    learnt = [str(path) for path in sorted(data.glob(f"*_{language}_train.jsonl"))]
    assert len(learnt) == 3
    assert main([*learnt, "--against", str(data / f"turns_{language}_dev.jsonl")]) == 0
