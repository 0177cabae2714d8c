"""callpulse rules: what check, explain and schema print, and their exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import T0, event, scored

from streams import cli, recording
from streams.conversation import Limits
from streams.explain import explained, in_words, scored_records, viewed
from streams.records import Record, Scored
from streams.rules import DEFAULTS, LIBRARY
from streams.settings import listed, variable
from streams.wire import encode

CALLS = Path(cli.__file__).parent / "calls"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for f in listed():
        monkeypatch.delenv(variable(f.name), raising=False)

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(("rules", *arguments))
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return called


RULES = """
rules:
  - {name: low, severity: warning, reason: "low at {score.last}", when: {measure: score.last, lte: -0.5}, cooldown: 0s}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 12s}, until: {streak: positive, turns: 1}}
  - {name: vip, severity: info, reason: vip, when: {words: turn}, scope: {attributes: {queue: vip}}, for: 9s}
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def heard(tmp_path: Path) -> str:
    """A recording of calls.sentiment."""
    turns = [scored(0, -1), scored(1, 0.0), scored(3, 0.9), event(4, "end")]
    records = [Record("calls.sentiment", 0, n, turn.source.timestamp, b"call-1", encode(turn)) for n, turn in enumerate(turns)]
    path = tmp_path / "sentiment.jsonl"
    path.write_bytes(b"".join(map(recording.write, records)))
    return str(path)


def test_check_says_that_all_is_well(run: Run, rules: str) -> None:
    code, out, err = run("check", rules)
    assert (code, err) == (0, "")
    assert out.startswith("3 rules, all is well (hash ")
    assert out.endswith("low 1, quiet 1, vip 1\n")
    assert run("check", str(LIBRARY))[1].startswith("12 rules, all is well")


def test_check_names_file_line_and_the_way_out(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(RULES.replace("score.last, lte", "score.lsat, lte").replace("12s", "12 s"))
    code, out, err = run("check", str(path))
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first == f"{path}:3: there is no measure score.lsat: did you mean score.last?"
    assert second.startswith(f"{path}:4: `silence`: ")
    assert run("check", str(tmp_path / "none.yaml"))[0] == 1


def test_check_in_json(run: Run, rules: str, tmp_path: Path) -> None:
    code, out, _ = run("check", rules, "--json")
    found = json.loads(out)
    assert (code, found["faults"], len(found["hash"])) == (0, [], 12)
    assert found["rules"][0] == {"name": "low", "version": 1, "severity": "warning"}
    (tmp_path / "rules.yaml").write_text("rules: 1\n")
    code, out, _ = run("check", rules, "--json")
    assert (code, json.loads(out)) == (
        1, {"hash": None, "rules": [], "faults": [
            {"file": rules, "line": 1, "text": "`rules` needs a list, each item with a dash before it"}]},
    )  # fmt: skip


def test_the_schema_is_json(run: Run) -> None:
    code, out, _ = run("schema")
    assert (code, json.loads(out)["title"]) == (0, "callpulse rules")
    assert "# yaml-language-server: $schema=rules.schema.json" in run("schema", "--help")[1]


def test_explain_says_turn_by_turn_what_each_rule_saw(run: Run, rules: str, heard: str) -> None:
    code, out, err = run("explain", heard, "--rules", rules)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        " 0:04 call-1 customer -1.00 turn 0",
        "      low: open; when +score.last <= -0.5 [-1]",
        "      quiet: no; when -silence_s >= 12 [0]",
        "      vip: not for this call; when +words (turn) in the call >= 1 [1]",
        " 0:04 open warning low: low at -1",
        " 0:14 call-1 customer +0.00 turn 1",
        "      low: no; when -score.last <= -0.5 [0]",
        "      quiet: no; when -silence_s >= 12 [0]",
        "      vip: not for this call; when +words (turn) in the call >= 1 [1]",
        " 0:14 resolve warning low: What raised the alert has passed.",
        " 0:26 open info quiet: quiet",
        " 0:34 call-1 customer +0.90 turn 3",
        "      low: no; when -score.last <= -0.5 [0.9]",
        "      quiet: passing; when -silence_s >= 12 [0]; until +streak.positive >= 1 [1]",
        "      vip: not for this call; when +words (turn) in the call >= 1 [1]",
        " 0:34 resolve info quiet: The call is over.",
    ]


def test_explain_one_rule_in_json(run: Run, rules: str, heard: str) -> None:
    code, out, _ = run("explain", heard, "--rules", rules, "--rule", "quiet", "--json")
    steps = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(step["at_ms"], bool(step["turn"]), [a["event"] for a in step["alerts"]]) for step in steps] == [
        (4_000, True, []), (14_000, True, []), (26_000, False, ["open"]), (34_000, True, []), (34_000, False, ["resolve"])
    ]  # fmt: skip
    [seen] = steps[0]["rules"]
    assert (seen["rule"], seen["state"]) == ("quiet", "no")
    assert seen["when"] == {"text": "silence_s >= 12", "holds": False, "values": {"silence_s": 0}, "parts": []}
    assert steps[0]["turn"]["label"] == "negative"


def test_explain_scores_what_is_not_scored_yet(run: Run) -> None:
    code, out, _ = run("explain", str(CALLS / "en-escalating.jsonl"), "--model", "lexicon", "--rule", "sustained_negative")
    assert code == 0
    assert "agent   -   tech support this is kyle" in out
    assert "sustained_negative: no; when -all of (" in out
    assert DEFAULTS[1] not in out


def test_explain_wants_a_rule_that_is_there(run: Run, rules: str, heard: str) -> None:
    code, _, err = run("explain", heard, "--rules", rules, "--rule", "loud")
    assert (code, "--rule loud: there are low, quiet, vip" in err) == (2, True)
    code, _, err = run("explain", heard, "--rules", "none.yaml")
    assert (code, "none.yaml:1: cannot be read" in err) == (2, True)


def test_a_worker_with_broken_rules_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("rules: 1\n")
    with pytest.raises(SystemExit) as end:
        cli.main(("worker", "--rules", str(path), "--model", "lexicon", "--bootstrap-servers", "127.0.0.1:1"))
    assert end.value.code == 2
    assert f"{path}:1: `rules` needs a list" in capsys.readouterr().err


def test_what_is_told_between_two_turns_is_waiting_and_nothing_yet() -> None:
    from builders import ruleset

    from streams.alerts import follow
    from streams.conversation import advance

    found = ruleset(RULES)
    turn = scored(0, None, attributes={"queue": "vip"})
    call = follow(None, advance(None, turn), turn, found).call
    low, _, vip = [viewed(rule, call) for rule in found.rules]
    assert in_words(low.when) == "-score.last <= -0.5 [nothing yet]"
    assert vip.state == "waiting"


def test_only_a_recording_of_scored_segments_is_taken_for_one() -> None:
    good = Record("t", 0, 0, T0, None, encode(scored(0, -1)))
    bad = Record("t", 0, 1, T0, None, b'{"call_id": "a", "speaker": "customer", "text": "hi"}')
    assert scored_records([good]) == [scored(0, -1)]
    assert scored_records([good, bad]) is None
    assert scored_records([]) is None


def test_a_step_tells_of_the_call_that_it_is_about() -> None:
    from builders import rule

    turns: list[Scored] = [scored(0, -1), scored(9, -1, call_id="b"), event(10, "end", call_id="b")]
    steps = list(explained(turns, Limits(), rule("{silence: 30s}")))
    assert [(step.call_id, step.at_ms, [a.event for a in step.alerts]) for step in steps] == [
        ("call-1", 4_000, []), ("call-1", 34_000, ["open"]), ("b", 94_000, []), ("call-1", 34_000, ["resolve"])
    ]  # fmt: skip
