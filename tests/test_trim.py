import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import models
from models import trim
from models.examples import read_examples
from models.transformer import BUILT_IN, load

DATA = Path(__file__).parents[1] / "models" / "data"
DROP = 1000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [row.text for name in ("turns_en_dev", "turns_ko_dev") for row in read_examples(DATA / f"{name}.jsonl")]


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    out = tmp_path_factory.mktemp("trimmed")
    trim.trim(BUILT_IN, out, texts, DROP)
    return out


def test_so_many_pieces_and_their_embeddings_are_gone(trimmed: Path) -> None:
    before, after = (load_file(path / "model.safetensors") for path in (BUILT_IN, trimmed))
    [name] = [name for name in before if name.endswith(trim.EMBEDDINGS)]
    assert before[name].shape[0] - after[name].shape[0] == DROP
    assert all(torch.equal(before[other], after[other]) for other in before if other != name)
    assert json.loads((trimmed / "config.json").read_text())["vocab_size"] == after[name].shape[0]


def test_what_remains_agrees(trimmed: Path, texts: list[str]) -> None:
    assert trim.agreement(BUILT_IN, trimmed, texts) == 1
    some = texts[::10]
    before, after = (load(path, "cpu").score(some) for path in (BUILT_IN, trimmed))
    assert [s.score for s in before] == pytest.approx([s.score for s in after], abs=1e-6)


def test_any_text_can_still_be_written(trimmed: Path) -> None:
    assert models.load(trimmed, "cpu").score(["zyzzyva kwyjibo 꿻뛟", "", "?!"])


def test_pieces_that_are_needed_most_stay_and_special_ones_always_do(texts: list[str]) -> None:
    spec = json.loads((BUILT_IN / "tokenizer.json").read_text())
    counts = trim.usage(trim.Tokenizer.from_file(str(BUILT_IN / "tokenizer.json")), texts)
    keep = {*trim.kept(spec, counts, 20_000)}
    dropped = {*range(len(spec["model"]["vocab"]))} - keep
    assert len(dropped) == 20_000
    assert not dropped & {token["id"] for token in spec["added_tokens"]}
    used = [counts[i] for i in keep if len(spec["model"]["vocab"][i][0]) > 2 and counts[i]]
    assert max(counts[i] for i in dropped) <= min(used)


def test_more_than_there_is_cannot_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(DATA / "turns_en_dev.jsonl")
    with pytest.raises(SystemExit, match="99999 of 32696 pieces cannot go"):
        trim.main([str(BUILT_IN), "--out", str(tmp_path), "--drop", "99999", "--text", text])
    trim.main([str(BUILT_IN), "--out", str(tmp_path), "--drop", "10", "--text", text])
    assert json.loads(capsys.readouterr().out) == {"pieces": 32687, "texts": 529, "tokenized_the_same": 1.0}


def test_another_kind_of_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="only Unigram vocabularies can be trimmed, this is WordLevel"):
        trim.kept({"model": {"type": "WordLevel"}}, trim.Counter(), 1)
