import json
from pathlib import Path

import pytest
import torch
from checkpoints import save_encoder
from safetensors.torch import load_file

import models
from models import finetune
from models.examples import Example
from models.finetune import Best, balance, spread

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


def test_a_share_of_a_file_is_trained_on(base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(base, Path(f"{data}=5"), tmp_path / "out")
    assert json.loads(capsys.readouterr().out) == {"rows": 5, "dev": {}}


def test_files_may_lie_in_the_folder_that_a_variable_names(base: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(finetune.DATA, str(data.parent))
    assert finetune.source("train.jsonl=7") == (data, 7)
    assert finetune.source("other.jsonl") == (Path("other.jsonl"), None)
    monkeypatch.setenv(finetune.BASE, str(base))
    assert finetune.parser().parse_args(["--train", "train.jsonl", "--out", "x"]).base == base


def test_a_student_comes_to_agree_with_its_teacher_on_text_without_labels(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "teacher"
    train(base, data, teacher, "--epochs", "30", "--lr", "0.01", "--plain", "0")
    neutral = tmp_path / "neutral.jsonl"
    neutral.write_text('{"text": "is that the line", "label": "neutral"}\n')
    unlabelled = ("--teacher", str(teacher), "--unlabelled", str(data), "--soft", "1", "--layers", "2")
    train(base, neutral, tmp_path / "student", *unlabelled, "--epochs", "30", "--lr", "0.01", "--plain", "0")
    scored = models.load(tmp_path / "student", "cpu").score([text for text, _ in ROWS])
    assert [sentiment.label for sentiment in scored] == [label for _, label in ROWS]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 17


def test_text_without_labels_needs_a_teacher(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(base, data, tmp_path / "out", "--unlabelled", str(data))


def test_the_best_look_is_kept_and_a_run_without_progress_stops(base: Path, data: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    options = ("--dev", str(data), "--epochs", "9", "--lr", "0", "--look-every", "1", "--patience", "3", "--log", str(log))
    train(base, data, tmp_path / "out", *options)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[0]["rows"] == 16
    assert events[0]["options"]["seed"] == 1
    assert [event["step"] for event in events if "mean" in event] == [1, 2, 3, 4]  # nothing is learnt at a rate of 0


def test_the_best_is_the_highest_and_its_weights_do_not_move_on() -> None:
    model, best = torch.nn.Linear(1, 1), Best()
    for score, weight in ((0.5, 1.0), (0.9, 2.0), (0.7, 3.0)):
        torch.nn.init.constant_(model.weight, weight)
        best.take(score, model)
    assert (best.score, best.since) == (0.9, 1)
    assert best.weights is not None
    assert best.weights["weight"].item() == 2.0


def test_a_rare_label_weighs_more_and_a_missing_one_is_no_division_by_zero() -> None:
    rows = [Example("x", 0)] * 16 + [Example("y", 1)] * 4 + [Example("z", 2)] * 4 + [Example("u", None)] * 9
    assert balance(rows).tolist() == pytest.approx([0.5**0.5, 2**0.5, 2**0.5])
    assert torch.isfinite(balance([Example("x", 0)])).all()
