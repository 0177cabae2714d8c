import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save_encoder
from safetensors.torch import load_file

import models
from models import finetune
from models.finetune import Example, macro_f1, plain, read_examples, sample, spread

ROWS = [
    ("thank you , that was perfect !", "positive"),
    ("that was awful", "negative"),
    ("the line is dead again", "negative"),
    ("is that the line", "neutral"),
] * 4


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "base", layers=4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    return path


def train(base: Path, data: Path, out: Path, *options: str) -> dict[str, torch.Tensor]:
    """The weights of one run."""
    arguments = ["--base", base, "--train", data, "--out", out, "--batch", "4", "--fp32", *options]
    finetune.main([str(argument) for argument in arguments])
    return load_file(out / "model.safetensors")


def test_the_same_seed_gives_the_same_weights(base: Path, data: Path, tmp_path: Path) -> None:
    first, again, other = (train(base, data, tmp_path / f"run{n}", "--seed", seed) for n, seed in enumerate("778"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_run_learns_its_rows_and_its_output_loads_as_a_model(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(base, data, tmp_path / "out", "--epochs", "30", "--lr", "0.01", "--plain", "0", "--dev", str(data))
    report = json.loads(capsys.readouterr().out)
    assert report == {"rows": 16, "dev": {"train.jsonl": {"rows": 16, "macro_f1": 1.0, "accuracy": 1.0}}}
    scored = models.load(tmp_path / "out", "cpu").score([text for text, _ in ROWS])
    assert [sentiment.label for sentiment in scored] == [label for _, label in ROWS]


def test_the_checkpoint_is_half_precision_and_never_pickle(base: Path, data: Path, tmp_path: Path) -> None:
    weights = train(base, data, tmp_path / "out")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files


def test_layers_are_dropped_and_word_embeddings_stay(base: Path, data: Path, tmp_path: Path) -> None:
    weights = train(base, data, tmp_path / "out", "--layers", "2")
    assert {name.split(".")[3] for name in weights if ".layer." in name} == {"0", "1"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 2
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(weights[f"bert.{name}"], load_file(base / "model.safetensors")[name].half())


def test_the_layers_kept_are_the_bases_first_and_last(base: Path) -> None:
    before = load_file(base / "model.safetensors")
    kept = finetune.load_student(base, 2).base_model.encoder.layer
    name = "attention.self.query.weight"
    for mine, of_base in ((0, 0), (1, 3)):
        assert torch.equal(kept[mine].get_parameter(name), before[f"encoder.layer.{of_base}.{name}"])


@pytest.mark.parametrize(
    ("keep", "total", "layers"),
    [(6, 12, [0, 2, 4, 7, 9, 11]), (2, 4, [0, 3]), (1, 12, [11]), (4, 4, [0, 1, 2, 3]), (3, 5, [0, 2, 4])],
)
def test_kept_layers_are_spread_evenly(keep: int, total: int, layers: list[int]) -> None:
    assert spread(keep, total) == layers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("I’m NOT happy -- at all...", "i'm not happy at all"),
        ("정말 감사합니다!!", "정말 감사합니다"),
        ("???", "???"),
        ("", ""),
    ],
)
def test_plain_strips_case_and_punctuation_but_never_all_of_a_text(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    # class 0: tp 1, fp 0, fn 1 -> 2/3; class 1: tp 2, fp 1, fn 0 -> 4/5
    assert macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == pytest.approx((2 / 3 + 4 / 5) / 2)
    # class 2 is predicted but never right: class 0 tp 1, fn 1 -> 2/3; class 1 tp 1 -> 1
    assert macro_f1([0, 0, 1], [0, 2, 1]) == pytest.approx((2 / 3 + 1) / 2)
    assert macro_f1([0, 1, 2], [1, 2, 0]) == 0


@pytest.mark.parametrize(("count", "copies"), [(None, {1}), (0, {0}), (3, {0, 1}), (5, {1}), (12, {2, 3})])
def test_a_sample_repeats_no_row_before_all_are_used(count: int | None, copies: set[int]) -> None:
    rows = [Example(str(n), 0) for n in range(5)]
    drawn = sample(rows, count, random.Random(1))
    assert len(drawn) == (5 if count is None else count)
    assert {drawn.count(row) for row in rows} == copies


def test_a_share_of_a_file_is_trained_on(base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(base, Path(f"{data}=5"), tmp_path / "out")
    assert json.loads(capsys.readouterr().out) == {"rows": 5, "dev": {}}


def test_data_may_be_gzipped_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write('{"text": "감사", "label": "positive", "by": "us"}\n\n{"text": "no", "label": "negative"}\n')
    assert read_examples(path) == [Example("감사", 2), Example("no", 0)]


@pytest.mark.parametrize("row", [{"text": "x", "label": "happy"}, {"text": "x"}])
def test_a_bad_label_is_refused_by_file_and_line(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": "neutral"}\n' + json.dumps(row))
    with pytest.raises(ValueError, match=rf"rows\.jsonl:2: label {row.get('label')!r} is none of negative"):
        read_examples(path)
