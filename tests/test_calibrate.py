import json
import math
import random
from pathlib import Path

import pytest
from checkpoints import save_classifier, save_encoder
from hypothesis import given
from hypothesis import strategies as st

import models
from models import calibrate, finetune
from models.errors import ModelLoadError
from models.examples import Example
from models.report import LabelledSet
from models.sentiment import decide

shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda p: [x / sum(p) for x in p])


@given(shares, st.floats(0.2, 5))
def test_a_temperature_keeps_the_order_and_its_inverse_takes_it_away(p: list[float], temperature: float) -> None:
    scaled = calibrate.tempered(p, temperature)
    assert math.isclose(sum(scaled), 1)
    assert calibrate.tempered(scaled, 1 / temperature) == pytest.approx(p, abs=1e-9)
    assert scaled.index(max(scaled)) == p.index(max(p)) or math.isclose(max(scaled), scaled[p.index(max(p))])


def drawn(temperature: float, binary: bool = False) -> tuple[LabelledSet, list[list[float]]]:
    """Labels drawn from probabilities, and these as a model that is too sure by that temperature says them."""
    rng = random.Random(1)
    rows, said = [], []
    for _ in range(4000):
        p = calibrate.tempered([rng.random() + 0.01 for _ in range(3)], 0.5)
        rows.append(Example("x", rng.choices(range(3), p)[0], "routine" if rng.random() < 0.1 else ""))
        said.append(calibrate.tempered(p, 1 / temperature))
    return LabelledSet("drawn", rows, binary), said


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("binary", [False, True])
def test_the_temperature_that_made_a_model_too_sure_is_found(temperature: float, binary: bool) -> None:
    one, said = drawn(temperature, binary)
    found = calibrate.fit([one], [said])
    assert found == pytest.approx(temperature, rel=0.12)
    assert calibrate.errors(one, said, found) < 0.03
    if temperature != 1:
        assert calibrate.errors(one, said, found) < calibrate.errors(one, said, 1.0)


def test_the_band_is_the_best_that_leaves_routine_alone() -> None:
    rows = [Example("a", 0), Example("b", 1, "routine"), Example("c", 2), Example("d", 1, "trap")]
    said = [[0.8, 0.1, 0.1], [0.55, 0.4, 0.05], [0.1, 0.2, 0.7], [0.1, 0.85, 0.05]]  # .55 of .95 is .579
    choice = calibrate.choose([LabelledSet("x", rows, False)], [said], 1.0, most=0.0)
    assert (choice.least, choice.macro_f1, choice.routine) == (0.58, 1.0, 0.0)
    lenient = calibrate.choose([LabelledSet("x", rows[:1], False)], [said[:1]], 1.0, most=0.5)
    assert lenient.least == 0.0


def test_where_no_band_is_good_enough_the_nearest_is_taken() -> None:
    one = LabelledSet("x", [Example("a", 1, "routine"), Example("b", 0)], False)
    choice = calibrate.choose([one], [[[0.99, 0.01, 0.0], [0.9, 0.05, 0.05]]], 1.0, most=0.0)
    assert choice.routine == 1.0


def test_a_label_needs_its_share_to_be_other_than_neutral() -> None:
    assert decide((0.6, 0.3, 0.1), least=0.67).label == "neutral"
    assert decide((0.6, 0.3, 0.1), least=0.66).label == "negative"
    assert decide((0.48, 0.02, 0.5), least=0.9).label == "positive"  # mixed, but not thin
    assert decide((0.2, 0.5, 0.3), least=0.9).label == "neutral"
    assert decide((0.6, 0.4, 0.0), least=0.7).score == pytest.approx(-0.6)


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Path]:
    rows = [("that was awful", "negative"), ("is that the line", "neutral"), ("that was perfect !", "positive")] * 4
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": t, "label": label, "kind": "routine"}) + "\n" for t, label in rows))
    base, out = save_encoder(tmp_path / "base", layers=1), tmp_path / "out"
    finetune.main(["--base", str(base), "--train", str(data), "--out", str(out), "--batch", "4", "--fp32"])
    return out, data


def test_the_command_stores_what_load_then_uses(checkpoint: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out, data = checkpoint
    before, revision = models.load(out, "cpu").score(["awful"])[0], models.load(out, "cpu").revision
    capsys.readouterr()
    calibrate.main([str(out), str(data), "--dry-run"])
    assert models.load(out, "cpu").revision == revision
    calibrate.main([str(out), str(data), "--binary", str(data), "--routine", "1"])
    first, said = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert json.loads((out / "config.json").read_text())["callpulse"] == {n: said[n] for n in ("temperature", "least")}
    assert set(first["expected_calibration_error"]) == {str(data)}
    scorer = models.load(out, "cpu")
    assert scorer.revision != revision
    p = calibrate.tempered([before.negative, before.neutral, before.positive], said["temperature"])
    after = scorer.score(["awful"])[0]
    assert [after.negative, after.neutral, after.positive] == pytest.approx(p, abs=1e-4)
    calibrate.main([str(out), str(data), "--binary", str(data), "--routine", "1"])  # a second time changes nothing
    assert json.loads(capsys.readouterr().out)["temperature"] == pytest.approx(said["temperature"], abs=0.02)


@pytest.mark.parametrize("stored", [7, {"temperature": "hot"}, {"temperature": 0}, {"least": 2}])
def test_a_calibration_that_is_none_is_refused(checkpoint: tuple[Path, Path], stored: object) -> None:
    out, _ = checkpoint
    config = json.loads((out / "config.json").read_text()) | {"callpulse": stored}
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        models.load(out, "cpu")


def test_a_file_that_cannot_be_measured_is_refused(checkpoint: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        calibrate.main([str(checkpoint[0]), "nowhere.jsonl"])
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_the_band_that_a_checkpoint_states_is_applied(checkpoint: tuple[Path, Path]) -> None:
    base, data = checkpoint
    out = base.with_name("trained")
    finetune.main(["--base", str(base), "--train", str(data), "--out", str(out), "--epochs", "60", "--lr", "0.01", "--fp32"])
    assert [s.label for s in models.load(out, "cpu").score(["that was awful"])] == ["negative"]
    config = json.loads((out / "config.json").read_text()) | {"callpulse": {"least": 1.0}}
    (out / "config.json").write_text(json.dumps(config))
    assert [s.label for s in models.load(out, "cpu").score(["that was awful"])] == ["neutral"]


def test_a_checkpoint_that_cannot_be_calibrated_is_refused(
    checkpoint: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stars = save_classifier(tmp_path / "stars", [f"{n} stars" for n in range(1, 6)])
    for folder, said in ((stars, "several classes mean one label"), (tmp_path / "nowhere", "neither a folder")):
        with pytest.raises(SystemExit, match="1"):
            calibrate.main([str(folder), str(checkpoint[1])])
        assert said in capsys.readouterr().err
