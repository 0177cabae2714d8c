"""The pure parts of `make bench`, and the race with real processes that load nothing."""

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import TEXTS, save_classifier
from hypothesis import given
from hypothesis import strategies as st

import models
from models.labels import map_labels
from models.report import Agreement
from tests.bench import ours, race
from tests.bench.__main__ import calibration_of, folder_of, options_of, token_lengths
from tests.bench.contender import Setup
from tests.bench.jobs import ALWAYS, CONSUMERS, JOBS, Job, Lap, Plan, order, wanted
from tests.bench.race import ContenderError, Lineup, Process
from tests.bench.table import Calibration, Row, best, flat, lines, within
from tests.bench.texts import bars, compared, drawn, histogram, turns

GOOD, BAD = Agreement("", 0.998, 0.002), Agreement("", 0.98, 0.002)
BY_NAME = {job.name: job for job in JOBS}


def row(name: str, seconds: list[float], found: Agreement | None = GOOD) -> Row:
    return Row(BY_NAME[name], [Lap(s, 2 * s) for s in seconds], 100, 1000, found)


# texts


def test_turns_are_distinct_and_come_from_turns_and_from_whole_calls(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "one"}\n')
    (tmp_path / "b.jsonl").write_text('{"call_id": "c", "turns": [{"text": "two"}, {"text": "three"}]}\n')
    assert turns(tmp_path) == ["one", "two", "three"]


def test_there_are_turns_enough_of_our_own() -> None:
    assert len(set(drawn(turns(), Plan().texts))) == Plan().texts >= 3000


@given(st.lists(st.text(), unique=True), st.integers(0, 50))
def test_what_is_drawn_is_distinct_and_always_the_same(texts: list[str], count: int) -> None:
    found = drawn(texts, count)
    assert len(set(found)) == len(found) == min(count, len(texts))
    assert set(found) <= set(texts)
    assert found == drawn(texts, count)


def test_the_sample_is_of_the_development_sets_where_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("a", "b"):
        with gzip.open(tmp_path / "dev" / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps({"text": f"{name}{n}"}) + "\n" for n in range(20))
    found = compared(["x"] * 9, tmp_path, 10)
    assert sorted(text[0] for text in found) == ["a"] * 5 + ["b"] * 5
    assert compared(["x", "y"], None, 10) == drawn(["x", "y"], 10)


@given(st.lists(st.integers(1, 600)))
def test_a_histogram_counts_every_length_once(lengths: list[int]) -> None:
    counts = histogram(lengths)
    assert sum(counts.values()) == len(lengths)
    assert counts["1-4"] == sum(length <= 4 for length in lengths)
    assert counts["9-12"] == sum(9 <= length <= 12 for length in lengths)
    assert counts["65-"] == sum(length > 64 for length in lengths)


def test_bars_are_as_long_as_their_share_of_the_most() -> None:
    assert bars({"1-4": 2, "5-": 1}, width=4) == ["   1-4      2   67% ####", "    5-      1   33% ##"]


# the plan


@given(st.lists(st.text(), unique=True), st.integers(0, 20))
def test_every_round_has_everybody_once(names: list[str], number: int) -> None:
    assert sorted(order(names, number)) == sorted(names)
    assert order(names, number) == order(names, number)


def test_nobody_always_follows_the_same_neighbour() -> None:
    names = [job.name for job in JOBS]
    rounds = [order(names, number) for number in range(5)]
    before = {name: {(["", *turn])[turn.index(name)] for turn in rounds} for name in names}
    assert min(map(len, before.values())) >= 3


def test_what_the_others_are_measured_by_always_runs() -> None:
    assert wanted(JOBS, [], False) == list(JOBS)
    assert [job.name for job in wanted(JOBS, ["onnx_int8"], False)] == [*ALWAYS, "onnx_int8"]
    assert not any(job.rival for job in wanted(JOBS, [], True))
    assert not wanted(CONSUMERS, ["onnx_int8"], False)


def test_options_say_how_much_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert options_of([])[1] == Plan()
    assert options_of(["--texts", "300", "--rounds", "1"])[1] == replace(Plan(), texts=300, rounds=1)
    assert options_of(["--quick"])[1].rounds == 1
    with pytest.raises(SystemExit):
        options_of(["--only", "engine,vllm"])
    assert "no row is called vllm" in capsys.readouterr().err


# figures


def test_figures_are_medians() -> None:
    one = row("engine", [4.0, 1.0, 2.0])
    assert (one.per_s, one.tokens_per_s, one.cpu_us) == (50, 500, 40_000)


@pytest.mark.parametrize(("labels", "scores", "inside"), [(0.995, 0.01, True), (0.9949, 0.0, False), (1.0, 0.0101, False)])
def test_the_bound_is_of_labels_and_of_scores(labels: float, scores: float, inside: bool) -> None:
    assert within(Agreement("", labels, scores)) is inside


def test_only_rivals_inside_the_bound_are_peers() -> None:
    rows = [row("engine", [1]), row("onnx_int8", [2], BAD), row("compile_bf16", [3]), row("infinity_bf16", [4], None)]
    found = flat(rows)
    assert best(rows) is rows[2]
    assert (found["best_peer"], found["best_peer_per_s"]) == ("compile_bf16", 33.3)
    assert found["infinity_best_per_s"] is None
    assert found["engine_of_best_peer"] == 3.003
    assert found["engine_of_pipeline"] is None
    assert found["onnx_int8_per_s"] == 50.0
    assert found["onnx_int8_inside_bound"] is False
    assert (found["label_agreement"], found["mean_score_difference"]) == (0.998, 0.002)


def test_nothing_measured_is_no_figure() -> None:
    assert flat([])["best_peer_per_s"] is None
    assert lines([], {"onnx_fp32": "not installed"})[-1] == "onnx_fp32: left out: not installed"


def test_the_table_says_who_is_outside_the_bound_and_how_near_the_limit() -> None:
    head, engine, limit, int8 = lines([row("engine", [2]), row("bare_forward", [1]), row("onnx_int8", [1], BAD)], {})
    assert head.split() == ["segments/s", "tokens/s", "cpu", "us", "of", "limit", "labels", "scores"]
    assert engine.split()[-7:] == ["default", "50", "500", "40,000", "0.50", "99.80%", "0.0020"]
    assert "1.00" in limit
    assert int8.endswith("outside the bound")


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=3), st.floats(0.5, 2))
def test_the_temperature_is_applied_to_whom_does_not_know_it(logits: list[float], temperature: float) -> None:
    from torch import tensor

    raw, cooled = tensor(logits).double().softmax(-1), (tensor(logits).double() / temperature).softmax(-1)
    [found] = Calibration(["negative", "neutral", "positive"], temperature).sentiments([raw.tolist()], False)
    assert [found.negative, found.neutral, found.positive] == pytest.approx(cooled.tolist(), abs=1e-6)


def test_rows_become_sentiments_by_the_checkpoints_own_rules() -> None:
    calibration = Calibration(["POS", "NEG"], least=0.6)
    assert map_labels(calibration.names) == ("positive", "negative")
    [found] = calibration.sentiments([[0.75, 0.25]], calibrated=False)
    assert (found.label, found.positive, found.negative) == ("positive", 0.75, 0.25)
    [known] = Calibration(["a"], 3.0, 0.6).sentiments([[0.45, 0.4, 0.15]], calibrated=True)
    assert (known.label, known.negative) == ("neutral", 0.45)


# contenders


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(["one", "two", "three"]))
    return Setup("", str(texts), threads=1, budget=64)


def contender(kind: str) -> Job:
    return Job(kind.lower(), kind, "tests.contenders", kind, rival=True, warm=2)


@pytest.fixture
def lineup(setup: Setup, tmp_path: Path) -> Iterator[Lineup]:
    with Lineup(setup, tmp_path) as made:
        yield made


def stopped(process: Process) -> bool:
    """Waits for its next change, which is to stop."""
    found = os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return found is not None and found.si_code == os.CLD_STOPPED


def test_a_contender_answers_and_stands_still_in_between(lineup: Lineup) -> None:
    lineup.start([contender("Echo")], lambda process: process.ask("warm") and None)
    process = lineup.running["echo"]
    assert process.ask("score", texts=["four"]) == {"rows": [[0, 0, 4]], "calibrated": True}
    assert process.ask("warm")["texts"] == 2
    lap = process.lap(count=7)
    assert lap.seconds > 0
    assert lap.more == {"texts": 3, "told": {"do": "run", "count": 7}}
    assert stopped(process)
    lineup.drop("echo")
    assert process.process.poll() is not None


def test_whoever_fails_is_left_out_with_the_reason_and_the_others_go_on(lineup: Lineup) -> None:
    missing = Job("missing", "", "tests.nowhere", "X", rival=True)
    lineup.start([contender("Echo"), contender("Broken"), contender("Dying"), missing], lambda process: None)
    assert sorted(lineup.running) == ["broken", "dying", "echo"]
    for number in range(2):
        lineup.round(number, lineup.races(["echo", "broken", "dying"]))
    assert len(lineup.laps["echo"]) == 2
    assert lineup.laps.keys() == {"echo"}
    assert lineup.left_out["broken"] == "RuntimeError: out of order"
    assert lineup.left_out["missing"] == "ModuleNotFoundError: No module named 'tests.nowhere'"
    assert lineup.left_out["dying"] == "its process has ended: gone"


def test_peers_without_their_environment_are_left_out(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "PEERS", tmp_path / "python")
    with pytest.raises(ContenderError, match="make bench"):
        Process(BY_NAME["onnx_fp32"], setup, tmp_path / "log")


def test_engine_and_bare_forward_score_alike(tmp_path: Path) -> None:
    folder, texts = save_classifier(tmp_path / "tiny"), tmp_path / "texts.json"
    texts.write_text(json.dumps(TEXTS))
    setup = Setup(str(folder), str(texts), threads=1, budget=16)
    engine, bare = (
        getattr(ours, kind)(BY_NAME[name], setup) for kind, name in (("engine", "engine"), ("bare", "bare_forward"))
    )
    for one, other in zip(engine.score(TEXTS), bare.score(TEXTS), strict=True):
        assert one == pytest.approx(other, abs=0.02)
    assert engine.run(TEXTS, {}) == bare.run(TEXTS, {}) == {"precision": models.load(folder, "cpu").precision}
    assert sum(map(len, bare.batches)) == len(TEXTS)
    assert token_lengths(folder, TEXTS) == [bare.scorer.length(r) for r in bare.scorer.tokenize(TEXTS)[0]]
    engine.engine.close()
    bare.engine.close()


def test_the_shipped_checkpoint_says_how_it_is_calibrated() -> None:
    found = calibration_of(folder_of("default"))
    assert found.names == ["negative", "neutral", "positive"]
    assert found.temperature > 0
    assert 0 <= found.least <= 1
