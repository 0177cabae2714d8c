"""callpulse backtest: what it prints, what it lists, its exit codes, when it loads a model and when it does not."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import event, scored
from stages import Staged

from models.sentiment import LexiconScorer
from streams import cli, recording
from streams.labelled import Opened, labels_of, opened
from streams.records import Record, Segment
from streams.scoring import BLOCK, Log
from streams.settings import Settings, listed, variable
from streams.wire import encode

CALLS = Path(cli.__file__).parent / "calls"
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
Run = Callable[..., tuple[int, str, str]]
OLD = """
rules:
  - {name: low, severity: warning, reason: low, when: {measure: score.last, lte: -0.5}, cooldown: 0s}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 12s}, cooldown: 0s}
"""
NEW = OLD.replace("-0.5", "-0.8")
WORDS = "rules: [{name: word, severity: info, reason: word, when: {words: refund}}]"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for f in listed():
        monkeypatch.delenv(variable(f.name), raising=False)

    def called(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(("backtest", *map(str, arguments)))
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return called


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("models.load", load)


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.yaml" for name in ("old", "new", "words", "broken")}
    for name, text in (("old", OLD), ("new", NEW), ("words", WORDS), ("broken", "rules: [{name: low}]")):
        paths[name].write_text(text)
    return paths


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """A recording of calls.sentiment: a call that alerts, one that does not, a repeat, junk, one that comes too late."""
    turns = [scored(0, 0.0), scored(1, -0.6), scored(4, 0.9), event(5, "end"), scored(1, -0.6)]
    calm = [scored(0, 0.2, lane=1, call_id="calm", segment_id="x"), event(1, "end", lane=1, call_id="calm")]
    late = scored(60, 0.0)
    values = [(turn.source.timestamp, encode(turn)) for turn in (*turns, *calm, late)]
    records = [Record("calls.sentiment", 0, n, *row) for n, row in enumerate((at, b"k", value) for at, value in values)]
    path = tmp_path / "sentiment.jsonl"
    path.write_bytes(b"".join(map(recording.write, [*records, Record("calls.sentiment", 0, 99, 0, None, b"junk")])))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"call_id": "call-1", "turn": 1}\n{"call_id": "calm", "routine": true}\n')
    return path


@pytest.mark.usefixtures("no_model")
def test_what_is_scored_needs_no_model(run: Run, heard: Path, rules: dict[str, Path]) -> None:
    code, out, _ = run(heard, "--rules", rules["old"])
    assert code == 0
    assert out.splitlines()[0] == "2 calls, 4 turns, 1 repeats, 1 rejected (not_json), 1 rejected (call_ended)"
    assert [line.split() for line in out.splitlines()[3:]] == [
        ["all", "2", "100", "1", "1", "20", "s", "(26)", "2", "(2)"],
        ["low", "1", "50", "1", "14", "s", "(14)", "2", "(2)"],
        ["quiet", "1", "50", "1", "26", "s", "(26)", "2", "(2)"],
    ]


@pytest.mark.usefixtures("no_model")
def test_the_readme_shows_what_is_printed(run: Run, heard: Path, tmp_path: Path) -> None:
    """The form; the figures go with the checkpoint and the rules that ship. Its labels are read as they stand."""
    (heading,) = (line for line in run(heard)[1].splitlines() if line.startswith("rules"))
    assert " ".join(heading.split()[2:]) in " ".join(README.split())
    (path := tmp_path / "labels.jsonl").write_text(
        "\n".join(re.findall(r'^ +({"call_id": "c-.*})$', README, flags=re.MULTILINE))
    )
    assert {call_id: len(labels) for call_id, labels in labels_of(str(path)).items()} == {"c-1": 3, "c-2": 1}


@pytest.mark.usefixtures("no_model")
def test_values_alone_are_a_recording(run: Run, heard: Path, rules: dict[str, Path], tmp_path: Path) -> None:
    """As a console consumer prints them."""
    (path := tmp_path / "values.jsonl").write_bytes(b"\n".join(r.value or b"" for r in recording.read(heard)))
    assert run(path, "--rules", rules["old"]) == run(heard, "--rules", rules["old"])


@pytest.mark.usefixtures("no_model")
def test_figures_against_labels(run: Run, heard: Path, rules: dict[str, Path], labels: Path) -> None:
    code, out, _ = run(heard, "--rules", rules["old"], "--labels", labels, "--within", "0", "--wrong")
    assert code == 0
    assert out.splitlines()[-2:] == [
        "1 routine calls: 0 alerts, 0 per 100",
        "2 labelled calls: precision 1, recall 1; 1 of 1 turns found, 0 (0) turns later",
    ], "silence opens after the labelled turn, and before the next"
    code, out, _ = run(heard, "--rules", rules["new"], "--labels", labels, "--within", "0", "--wrong", "--json")
    found = json.loads(out)
    assert (found["new"]["labels"]["recall"], found["listed"]) == (1, [])


@pytest.mark.usefixtures("no_model")
def test_wrong_calls_are_listed(run: Run, heard: Path, rules: dict[str, Path], labels: Path) -> None:
    labels.write_text('{"call_id": "call-1", "turn": 2}\n{"call_id": "calm"}\n')
    _, out, _ = run(heard, "--rules", rules["old"], "--labels", labels, "--wrong")
    assert out.splitlines()[-4:] == [
        "call-1",
        "    wrong 0:14 open warning low (turn 1); 0:44 resolve warning low (turn 2)",
        "    wrong 0:26 open info quiet (turn 1); 0:44 resolve info quiet (turn 2)",
        "    labelled turn 2: not found",
    ]
    _, out, _ = run(heard, "--rules", rules["old"], "--labels", labels, "--all", "--json")
    alarmed, calm = json.loads(out)["listed"]
    assert (calm["alerts"], calm["labels"], calm["routine"]) == ([], [], None)
    assert alarmed["labels"] == [{"turn": 2, "delay_turns": None}]
    assert [(alert["rule"], alert["right"], len(alert["events"])) for alert in alarmed["alerts"]] == [
        ("low", False, 2),
        ("quiet", False, 2),
    ]


@pytest.mark.usefixtures("no_model")
def test_old_against_new(run: Run, heard: Path, rules: dict[str, Path]) -> None:
    code, out, _ = run(heard, "--rules", rules["new"], "--against", rules["old"])
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines() if "rules" in line] == [["new", "rules"], ["old", "rules"]]
    assert out.splitlines()[-5:] == [
        "1 of 2 calls differ",
        "call-1",
        "  - 0:14 open warning low (turn 1)",
        "  - 0:44 resolve warning low (turn 2)",
        "    0:26 open info quiet (turn 1); 0:44 resolve info quiet (turn 2)",
    ]
    assert run(heard, "--rules", rules["new"], "--against", rules["old"], "--fail-on-change")[0] == 3
    code, out, _ = run(heard, "--rules", rules["old"], "--against", rules["old"], "--fail-on-change", "--json")
    found = json.loads(out)
    assert (code, found["changed"], found["listed"]) == (0, 0, [])
    assert found["old"] == found["new"]
    assert found["rejected"] == {"not_json": 1, "call_ended": 1}
    _, out, _ = run(heard, "--rules", rules["old"], "--against", rules["new"])
    assert "  + 0:14 open warning low (turn 1)" in out.splitlines()
    _, out, _ = run(heard, "--rules", rules["old"], "--against", rules["new"], "--json")
    (listed,) = json.loads(out)["listed"]
    assert [(told["event"], told["turn"]) for told in listed["come"]] == [("open", 1), ("resolve", 2)]
    assert (listed["gone"], listed["labels"], listed["alerts"][0]["right"]) == ([], None, None)


@pytest.mark.usefixtures("no_model")
def test_wrong_usage_and_files_that_cannot_be_used(
    run: Run, heard: Path, rules: dict[str, Path], labels: Path, tmp_path: Path
) -> None:
    def ends(*arguments: str | Path) -> tuple[int, str]:
        code, out, err = run(*arguments)
        assert out == ""
        return code, err

    assert ends() == (2, ends()[1])
    assert ends("gone.jsonl")[0] == 2
    code, said = ends(heard, "--fail-on-change")
    assert (code, "--fail-on-change goes with --against" in said) == (2, True)
    code, said = ends(heard, "--rules", rules["broken"])
    assert (code, "broken.yaml:1" in said) == (2, True)
    assert ends(heard, "--against", rules["broken"])[0] == 2
    code, said = ends(heard, "--rules", rules["words"], "--no-text")
    assert (code, "word would never hold" in said) == (2, True)
    labels.write_text("{}")
    code, said = ends(heard, "--labels", labels)
    assert (code, "labels.jsonl, line 1: not a label" in said) == (1, True)
    labels.write_text('{"call_id": "another"}')
    code, said = ends(heard, "--labels", labels)
    assert (code, "no call of these recordings is named there" in said) == (1, True)
    (empty := tmp_path / "empty.jsonl").write_text("")
    assert ends(empty)[0] == 1
    one = {"call_id": "x", "turns": [], "alerts": []}
    for path in (twice := [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]):
        path.write_text(json.dumps(one))
    code, said = ends(*twice, "--model", "lexicon")
    assert (code, "there is a call x in another file already" in said) == (1, True)


def test_segments_and_labelled_calls_are_scored(run: Run, rules: dict[str, Path], tmp_path: Path) -> None:
    turns = [{"speaker": "agent", "text": "hello"}, {"speaker": "customer", "text": "this is terrible, the worst"}]
    labelled = {"call_id": "x", "turns": turns, "alerts": [{"turn": 1}], "routine": False}
    path = tmp_path / "calls.jsonl"
    path.write_text(json.dumps(labelled))
    bundled = sorted(CALLS.glob("*.jsonl"))
    code, out, err = run(path, *bundled, "--rules", rules["old"], "--model", "lexicon", "--json", "--all")
    found = json.loads(out)
    assert (code, err, found["calls"]) == (0, "", 1 + len(bundled))
    assert found["new"]["labels"] | {"delay_turns": None} == {
        "calls": 1,
        "turns": 1,
        "found": 1,
        "precision": 1,
        "recall": 1,
        "delay_turns": None,
    }
    assert "terrible" not in out


def test_one_block_is_scored_while_the_one_before_is_judged(tmp_path: Path) -> None:
    """What fails to be scored is counted, in its place; every text reaches the model once, in its order."""
    said = [f"Customer: number {n}" if n != 300 else "Customer: poison" for n in range(2 * BLOCK)]
    (path := tmp_path / "call.txt").write_text("\n".join(said))
    scorer = Staged(poison={"forward": "poison"})
    with Log(Settings(), lambda _: scorer) as log:
        turns = [turn for _, turn in log.read([opened(str(path))])]
    assert dict(log.rejected) == {"scoring_failed": 1}
    texts = [turn.text for turn in turns if turn.type == "segment"]
    assert texts == [line.removeprefix("Customer: ") for n, line in enumerate(said) if n != 300]
    assert {turn.source.lane for turn in turns} == {f"{path}:-1"}


def test_no_more_is_read_than_the_model_needs() -> None:
    taken = itertools.count()
    records = (Record("segments", 0, n, n, None, encode(Segment(call_id="c", text="well"))) for n in taken)
    with Log(Settings(), lambda _: LexiconScorer()) as log:
        first = next(log.read([Opened("endless", False, records)]))
    assert (first[0], next(taken)) == (0, 2 * BLOCK)
