"""The evaluation on files that are made up here: its figures, its two command lines, and what it says when it cannot."""

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TEXTS, save_classifier

import models
from models import evaluate, report
from models.errors import ModelError
from models.evaluate import Checkpoint, Sentiment, VaderScorer, Wanted, read_sets
from models.sentiment import LABELS, decide
from streams import cli
from streams.settings import listed, variable

LEXICON = Checkpoint("lexicon")
SECRET = "my password is swordfish, thank you"
ROWS: tuple[dict[str, str], ...] = (
    {"text": "that was awful", "label": "negative", "kind": "complaint"},
    {"text": "this is the worst", "label": "negative", "kind": "complaint"},
    {"text": "the line is dead", "label": "negative", "kind": "complaint"},  # the lexicon says neutral
    {"text": "wonderful, thank you", "label": "positive", "kind": "praise"},
    {"text": SECRET, "label": "neutral", "kind": "routine"},  # the lexicon says positive
    {"text": "i want to cancel my order", "label": "neutral", "kind": "trap"},  # the lexicon says negative
    {"text": "it ends in four two", "label": "neutral", "kind": "routine"},
    {"text": "where do you live", "label": "neutral", "kind": "routine"},
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture(params=["callpulse", "module"])
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`callpulse evaluate` and `python -m models.evaluate`: both must do the same."""
    for f in listed():
        monkeypatch.delenv(variable(f.name), raising=False)

    def called(*arguments: str | Path) -> Done:
        words, code = [str(argument) for argument in arguments], 0
        try:
            cli.main(["evaluate", *words]) if request.param == "callpulse" else evaluate.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return called


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "turns.jsonl", ROWS)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("checkpoint") / "tiny")


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def measured(*files: Path, checkpoint: Checkpoint = LEXICON, binary: bool = False, **wanted: Any) -> report.Report:
    return evaluate.evaluate(checkpoint, read_sets(files, binary), Wanted(**wanted))


def test_the_figures_of_a_set(file: Path) -> None:
    [one] = measured(file).sets
    assert (one.name, one.binary, one.model.scorer, one.model.rows) == (str(file), False, "lexicon", 8)
    assert one.model.confusion == [[2, 1, 0], [1, 2, 1], [0, 0, 1]]
    assert one.model.accuracy == 5 / 8
    # F1: negative 2*2/(3+3), neutral 2*2/(4+3), positive 2*1/(1+2)
    assert [c.f1 for c in one.model.classes] == pytest.approx([2 / 3, 4 / 7, 2 / 3])
    assert one.model.macro_f1 == pytest.approx((2 / 3 + 4 / 7 + 2 / 3) / 3)
    assert (one.vader, one.agreement, one.errors) == (None, None, [])


def test_routine_turns_that_are_called_something_are_a_figure_of_their_own(file: Path) -> None:
    assert measured(file).sets[0].model.routine == report.Routine(rows=4, negative=1 / 4, positive=1 / 4)
    assert measured(file, binary=True).sets[0].model.routine == report.Routine(rows=4, negative=1 / 4, positive=1 / 4)


def test_a_set_without_kinds_has_no_figure_of_routine_turns(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    assert measured(write(tmp_path / "rows.jsonl", rows)).sets[0].model.routine is None


def test_binary_leaves_neutral_rows_out_and_compares_positive_with_negative(file: Path) -> None:
    [one] = measured(file, binary=True).sets
    assert (one.binary, one.model.rows) == (True, 4)
    assert one.model.confusion == [[3, 0, 0], [0, 0, 0], [0, 0, 1]]  # "dead" is a tie, which is negative's
    assert one.model.macro_f1 == one.model.accuracy == 1
    assert sum(b.rows for b in one.calibration) == 4


def test_a_set_without_neutral_rows_is_binary_and_its_neighbour_is_not(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "reviews.jsonl", ROWS[:4])
    assert [one.binary for one in measured(file, other).sets] == [False, True]


class Banded:
    """A scorer whose label may be neutral for want of evidence."""

    name, revision, precision = "banded", "1", "fp32"

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        return [decide((0.55, 0.05, 0.4), least=0.95) for _ in texts]


def test_labels_are_as_shipped_and_calibration_is_before_the_band(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda *_: Banded())
    [one] = measured(file).sets
    assert [sum(column) for column in zip(*one.model.confusion, strict=True)] == [0, 8, 0]
    assert one.expected_calibration_error == pytest.approx(0.55 - 3 / 8)  # negative is most probable, and right 3 times of 8
    [two] = measured(file, binary=True).sets
    assert two.expected_calibration_error == pytest.approx(3 / 4 - 0.55 / 0.95)
    assert two.model.accuracy == 3 / 4


def test_the_probabilities_of_a_certain_neutral_are_even_when_it_is_left_out() -> None:
    assert report.probabilities(decide((0.0, 1.0, 0.0)), binary=True) == [0.5, 0, 0.5]


@pytest.mark.parametrize(("rows", "small"), [(699, True), (700, False)])
def test_a_set_of_under_700_rows_gets_intervals(
    tmp_path: Path, rows: int, small: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    [one] = measured(write(tmp_path / "many.jsonl", (ROWS * 88)[:rows])).sets
    for figure, around in (
        (one.model.macro_f1, one.model.macro_f1_interval),
        (one.model.accuracy, one.model.accuracy_interval),
    ):
        assert (around is not None) is small
        assert around is None or around.low < figure < around.high
    progress = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()]
    assert progress == [f"lexicon exact 500 of {rows} rows", f"lexicon exact {rows} of {rows} rows"]


def test_speed_is_measured_by_the_clock_one_by_one_for_at_most_200_texts(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.jsonl", ROWS * 25) for n in range(3)]
    ticks = count()
    speed = evaluate.evaluate(LEXICON, read_sets(files), Wanted(), clock=lambda: next(ticks)).speed
    assert speed == report.Speed(texts=200, p50_ms=1000, p99_ms=1000, bulk_texts_per_s=200)


def test_a_checkpoint_says_its_device_and_its_size(tiny: Path, file: Path) -> None:
    done = measured(file, checkpoint=Checkpoint(str(tiny), "cpu"))
    assert (done.model, done.precision, done.device) == ("tiny", models.load(tiny, "cpu").precision, "cpu")
    assert done.size is not None
    assert done.size.megabytes == (tiny / "model.safetensors").stat().st_size / 1e6
    assert 4e-6 * done.size.parameters == pytest.approx(done.size.megabytes, rel=0.2)  # stored in fp32: four bytes each
    assert measured(file).size is None


def test_the_labels_of_a_checkpoint_may_be_given(tmp_path: Path, file: Path) -> None:
    folder = save_classifier(tmp_path / "nameless", ("LABEL_0", "LABEL_1"))
    done = measured(file, checkpoint=Checkpoint(str(folder), "cpu", labels=("positive", "negative")))
    assert sum(done.sets[0].model.confusion[1]) == 4


def test_agreement_of_two_precisions(tiny: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"text": text, "label": label} for text in TEXTS for label in LABELS])
    agreement = measured(file, checkpoint=Checkpoint(str(tiny), "cpu"), agreement="bf16").sets[0].agreement
    assert agreement is not None
    assert agreement.precision == "bf16"
    assert 0 <= agreement.equal_labels <= 1
    assert 0 < agreement.mean_score_difference < 0.1


def test_agreement_is_with_eager_fp32_whatever_the_runtime(tiny: Path, file: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    done = measured(file, checkpoint=Checkpoint(str(tiny), "cpu", runtime="onnx"), agreement="fp32")
    agreement = done.sets[0].agreement
    assert agreement is not None
    assert (done.precision, agreement.precision, agreement.equal_labels) == ("fp32-onnx", "fp32-onnx", 1)
    assert 0 < agreement.mean_score_difference < 1e-5


def test_agreement_by_hand() -> None:
    one, other = decide((0.5, 0.2, 0.3)), decide((0.3, 0.2, 0.5))
    assert report.agree("bf16", [one, one], [one, other]) == report.Agreement("bf16", 0.5, pytest.approx(0.2))


def test_the_fake_has_no_precisions_to_compare(file: Path) -> None:
    with pytest.raises(ModelError, match="lexicon has no precision to choose"):
        measured(file, agreement="bf16")


def test_errors_are_the_most_confident_wrong_rows(file: Path) -> None:
    assert measured(file).sets[0].errors == []
    errors = measured(file, errors=9).sets[0].errors
    # The lexicon counts 0 for "dead", 1 for "thank", -1 for "cancel": neutral has 2 of 4, the others e of e + 2 + 1/e.
    assert {(e.text, e.gold, e.predicted): round(e.confidence, 3) for e in errors} == {
        (SECRET, "neutral", "positive"): 0.534,
        ("i want to cancel my order", "neutral", "negative"): 0.534,
        ("the line is dead", "negative", "neutral"): 0.5,
    }
    assert [e.text for e in errors] == [SECRET, "i want to cancel my order", "the line is dead"]
    assert measured(file, errors=1).sets[0].errors == errors[:1]


@pytest.mark.parametrize(
    ("text", "label"),
    [("this is great, i love it", "positive"), ("this is horrible", "negative"), ("the invoice is dated may", "neutral")],
)
def test_vader_scores_as_its_authors_say(text: str, label: str) -> None:
    [sentiment] = VaderScorer().score([text])
    assert sentiment.label == label
    assert sentiment.score == pytest.approx(sentiment.positive - sentiment.negative)
    assert sentiment.negative + sentiment.neutral + sentiment.positive == pytest.approx(1)


@pytest.mark.parametrize(
    ("compound", "label"), [(0.05, "positive"), (0.049, "neutral"), (0.0, "neutral"), (-0.049, "neutral"), (-0.05, "negative")]
)
def test_vader_turns_at_a_twentieth(compound: float, label: str) -> None:
    assert VaderScorer()._score(compound).label == label


def test_vader_stands_beside_the_model(call: Call, file: Path) -> None:
    done = call(file, "--model", "lexicon", "--vader")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith(("    lexicon", "    vader"))] == [
        "lexicon",
        "vader",
    ]
    assert "  of 4 routine turns vader calls " in done.out


def test_the_table(call: Call, file: Path) -> None:
    done = call(file, "--model", "lexicon")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "model  lexicon 1, exact on cpu"
    assert f"{file}: 8 rows, three classes" in lines
    assert "  of 4 routine turns lexicon calls 25.0% negative, 25.0% positive" in lines
    [neutral] = [line.split() for line in lines if line.startswith("    neutral")]
    assert neutral == ["neutral", "4", "0.667", "0.500", "0.571", "1", "2", "1"]
    assert any(line.startswith("  calibration before the band: ECE 0.") for line in lines)


def test_a_binary_table_says_nothing_of_neutral(call: Call, file: Path) -> None:
    done = call(file, "--model", "lexicon", "--binary")
    assert f"{file}: 4 rows, negative or positive" in done.out.splitlines()
    assert "    neutral" not in done.out


def test_no_text_of_a_row_is_printed_unless_errors_are_asked_for(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [*ROWS, {"text": "thank \x1b[2J you", "label": "negative"}])
    for options in ([], ["--json"], ["--binary"]):
        done = call(file, "--model", "lexicon", *options)
        assert not any(word in done.out + done.err for word in ("swordfish", "dead"))
    done = call(file, "--model", "lexicon", "--errors", "9")
    assert f"is neutral: {SECRET!r}" in done.out
    assert "\x1b" not in done.out
    assert r"thank \x1b[2J you" in done.out


def test_json_is_one_object_with_all_figures(call: Call, file: Path, tiny: Path) -> None:
    options = ("--model", tiny, "--device", "cpu", "--vader", "--agreement", "bf16", "--errors", "1", "--json")
    done = call(file, file, *options)
    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    assert list(shown) == ["model", "revision", "precision", "device", "size", "speed", "sets"]
    assert list(shown["size"]) == ["parameters", "megabytes"]
    assert list(shown["speed"]) == ["texts", "p50_ms", "p99_ms", "bulk_texts_per_s"]
    assert shown["sets"][0]["model"] == shown["sets"][1]["model"]
    one = shown["sets"][0]
    error = ["expected_calibration_error", "expected_calibration_error_interval"]
    keys = ["name", "binary", "seconds", "model", *error, "calibration", "vader", "agreement", "errors"]
    assert list(one) == keys
    assert [c["label"] for c in one["model"]["classes"]] == list(LABELS)
    assert list(one["model"]["macro_f1_interval"]) == ["low", "high"]
    assert [len(row) for row in one["vader"]["confusion"]] == [3, 3, 3]
    assert len(one["calibration"]) == 15
    assert one["agreement"]["precision"] == "bf16"
    assert list(one["errors"][0]) == ["text", "gold", "predicted", "confidence"]


def test_the_plot_is_a_png(call: Call, file: Path, tmp_path: Path) -> None:
    named = write(tmp_path / "$5 or $6.jsonl", ROWS)  # two dollars are mathematics to matplotlib
    done = call(file, named, "--model", "lexicon", "--plot", tmp_path / "plot.png")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_plot_that_cannot_be_written_is_exit_code_1(call: Call, file: Path, tmp_path: Path) -> None:
    done = call(file, "--model", "lexicon", "--plot", tmp_path / "no such folder" / "plot.png")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("plot.png: No such file or directory\n")


@pytest.mark.parametrize(
    ("option", "module"), [("--vader", "vaderSentiment.vaderSentiment"), ("--plot=x.png", "matplotlib.figure")]
)
def test_a_missing_extra_is_exit_code_1_with_the_way_out(
    call: Call, file: Path, monkeypatch: pytest.MonkeyPatch, option: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    done = call(file, "--model", "lexicon", option)
    assert (done.code, done.out) == (1, "")
    assert f"{option.split('=')[0]} needs {module.split('.')[0]}: pip install '.[evaluate]'" in done.err
    assert done.err.count("\n") == 1


BAD: list[tuple[str, bytes, str]] = [
    (
        "rows.jsonl",
        b'{"text": "swordfish", "label": "neutral"}\n{"text": "swordfish", "label": "happy"}\n',
        ":2: label 'happy' ",
    ),
    ("rows.jsonl", b'{"text": "swordfish"}\n', ":1: label None "),
    ("rows.jsonl", b'\n{"text": "swordfish\n', ":2: no JSON: "),
    ("rows.jsonl", b'{"label": "neutral"}\n', ":1: text is not a string"),
    ("rows.jsonl", b"\n", ": no rows"),
    ("rows.jsonl", b'{"text": "\xff", "label": "neutral"}\n', ": 'utf-8' codec can't decode"),
    ("rows.jsonl.gz", b'{"text": "swordfish", "label": "neutral"}\n', ": Not a gzipped file"),
    ("rows.jsonl.gz", gzip.compress(b'{"text": "swordfish", "label": "neutral"}\n')[:-9], ": Compressed file ended"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_file_that_cannot_be_measured_is_exit_code_2_by_file_and_line(
    call: Call, tmp_path: Path, file: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = call(file, tmp_path / name, "--model", "lexicon")
    assert (done.code, done.out) == (2, "")
    assert f"{tmp_path / name}{message}" in done.err
    assert done.err.count("\n") == 1
    assert "swordfish" not in done.err


def test_a_file_that_is_not_there_is_exit_code_2(call: Call, tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.jsonl", "No such file or directory"), (tmp_path, "Is a directory")):
        done = call(path, "--model", "lexicon")
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith(f": {path}: {message}\n")
        assert done.err.count("\n") == 1


def test_binary_needs_a_row_that_is_not_neutral(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ROWS[4:])
    assert call(file, "--model", "lexicon").code == 0
    done = call(file, "--model", "lexicon", "--binary")
    assert (done.code, done.out) == (2, "")
    assert f"{file}: only neutral rows" in done.err


@pytest.mark.parametrize("arguments", [(), ("--agreement", "fp8", "x"), ("--nonsense", "x")], ids=" ".join)
def test_wrong_usage_is_exit_code_2(call: Call, arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "rror: " in done.err


def test_a_model_that_is_not_there_is_exit_code_1(call: Call, tmp_path: Path, file: Path) -> None:
    done = call(file, "--model", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert f"{tmp_path} holds no weights" in done.err


def test_the_help_shows_every_option(call: Call) -> None:
    done = call("--help")
    assert (done.code, done.err) == (0, "")
    for option in ("model", "labels", "device", "binary", "vader", "agreement", "errors", "plot", "json"):
        assert f"--{option}" in done.out
