import json
from pathlib import Path

import pytest
import torch
from checkpoints import WORDS, save_classifier, save_encoder, save_tokenizer
from safetensors.torch import load_file

import models
from models import finetune
from models.augment import Asr
from models.errors import ModelLoadError
from models.examples import Example
from models.finetune import Best, balance, spread

ROWS = [
    ("thank you , that was perfect ! ok", "positive"),
    ("that was awful ok", "negative"),
    ("the line is dead again ok", "negative"),
    ("is that the line ok", "neutral"),
] * 4


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "base", layers=4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    return path


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """The rows with another last word, unknown to the tokenizer as the first one is."""
    path = tmp_path / "dev.jsonl"
    path.write_text("".join(json.dumps({"text": f"{text}ay", "label": label}) + "\n" for text, label in ROWS))
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
    base: Path, data: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(base, data, tmp_path / "out", "--epochs", "60", "--lr", "0.01", "--plain", "0", "--dev", str(held_out))
    report = json.loads(capsys.readouterr().out)
    assert report == {"rows": 16, "dev": {str(held_out): {"rows": 16, "macro_f1": 1.0, "accuracy": 1.0}}}
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
    train(base, data, teacher, "--epochs", "60", "--lr", "0.005", "--plain", "0")
    neutral = tmp_path / "neutral.jsonl"
    neutral.write_text('{"text": "is that the line", "label": "neutral"}\n')
    unlabelled = ("--teacher", str(teacher), "--unlabelled", str(data), "--soft", "1", "--layers", "2")
    train(base, neutral, tmp_path / "student", *unlabelled, "--epochs", "60", "--lr", "0.005", "--plain", "0")
    scored = models.load(tmp_path / "student", "cpu").score([text for text, _ in ROWS])
    assert [sentiment.label for sentiment in scored] == [label for _, label in ROWS]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 17


def test_text_without_labels_needs_a_teacher(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(base, data, tmp_path / "out", "--unlabelled", str(data))


def test_the_best_look_is_kept_and_a_run_without_progress_stops(base: Path, data: Path, held_out: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    options = ("--dev", str(held_out), "--epochs", "9", "--lr", "0", "--look-every", "1", "--patience", "3", "--log", str(log))
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
    assert balance([Example("x", 0), Example("y", 2)]).tolist() == pytest.approx([(2 / 3) ** 0.5, 0, (2 / 3) ** 0.5])


def test_a_recognisers_hand_is_laid_on_each_text(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(finetune, "transcribed", lambda text, asr, _: seen.append(asr) or text)
    train(base, data, tmp_path / "out", "--plain", ".3", "--fillers", ".2", "--errors", ".1", "--epochs", "2")
    assert seen == [Asr(0.3, 0.2, 0.1)] * 32


def test_the_best_steps_weights_are_what_is_saved(
    base: Path, data: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[dict[str, torch.Tensor]] = []

    def look(self: finetune.Trainer) -> dict[str, dict[str, float]]:
        looks.append({name: tensor.detach().clone().half() for name, tensor in self.model.state_dict().items()})
        return {"dev": {"macro_f1": 0.9 if len(looks) == 1 else 0.1}}

    monkeypatch.setattr(finetune.Trainer, "evaluate", look)
    saved = train(base, data, tmp_path / "out", "--dev", str(held_out), "--lr", ".01", "--look-every", "1")
    assert all(torch.equal(saved[name], looks[0][name]) for name in saved)
    assert any(not torch.equal(saved[name], looks[1][name]) for name in saved)


def test_balance_and_smoothing_are_in_the_loss(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], torch.nn.CrossEntropyLoss
    monkeypatch.setattr(torch.nn, "CrossEntropyLoss", lambda **given: made.append(given) or real(**given))
    train(base, data, tmp_path / "out", "--smoothing", ".2")
    assert made[0]["label_smoothing"] == 0.2
    assert made[0]["weight"].unique().numel() > 1


def test_bf16_trains_as_well(base: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["--base", base, "--train", data, "--out", tmp_path / "out", "--batch", "4"]
    finetune.main([str(argument) for argument in arguments])
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / "out" / "model.safetensors").values())


def test_what_is_tested_is_not_learnt(
    base: Path, data: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_out.open("a") as file:
        file.write(json.dumps({"text": "That was AWFUL. OK", "label": "negative"}) + "\n")
    train(base, data, tmp_path / "out", "--dev", f"{held_out}=1")
    report = capsys.readouterr()
    assert json.loads(report.out)["rows"] == 12
    assert "4 training rows left out: they are in the development data" in report.err


def test_a_binary_set_leaves_its_neutral_rows_out(
    base: Path, data: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(base, data, tmp_path / "out", "--binary", str(held_out), "--epochs", "60", "--lr", "0.01", "--plain", "0")
    assert json.loads(capsys.readouterr().out)["dev"] == {str(held_out): {"rows": 12, "macro_f1": 1.0, "accuracy": 1.0}}


def test_a_teacher_that_could_only_teach_nonsense_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    turned = save_classifier(tmp_path / "turned", ("positive", "negative", "neutral"))
    with pytest.raises(ModelLoadError, match="labels in another order: positive, negative, neutral"):
        train(base, data, tmp_path / "out", "--teacher", str(turned))
    with pytest.raises(ModelLoadError, match="would score at random"):
        train(base, data, tmp_path / "out", "--teacher", str(base))
    other = save_classifier(tmp_path / "other")
    save_tokenizer(other, words=[*WORDS[1:], "more"])
    with pytest.raises(ModelLoadError, match="another vocabulary"):
        train(base, data, tmp_path / "out", "--teacher", str(other))


def test_a_base_without_a_tokenizer_is_refused_before_the_work(base: Path, data: Path, tmp_path: Path) -> None:
    (base / "tokenizer.json").unlink()
    with pytest.raises(SystemExit):
        train(base, data, tmp_path / "out")


def test_a_students_config_does_not_keep_the_bases_calibration(base: Path, data: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"callpulse": {"temperature": 2, "least": 0.5}}
    (base / "config.json").write_text(json.dumps(config))
    train(base, data, tmp_path / "out")
    assert "callpulse" not in json.loads((tmp_path / "out" / "config.json").read_text())
