"""Rules files: what is read, what is refused with its line and the way out, and what ships."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from builders import event, folded, rule, ruleset, scored

from streams import rules
from streams.episodes import Watches
from streams.errors import RulesError, SettingsError
from streams.language import KINDS, milliseconds
from streams.look import Look
from streams.measures import MEASURES
from streams.rules import DEFAULTS, LIBRARY, check, library, load, read, schema

GOOD = "rules:\n  - {name: a, severity: info, reason: r, when: {silence: 30s}}\n"


def faults(condition: str = "{silence: 30s}", **more: str) -> list[tuple[int, str]]:
    """What is wrong with a rule: its condition is on line 5, what is given more from line 6 on."""
    given = "".join(f"    {name}: {value}\n" for name, value in more.items())
    text = f"rules:\n  - name: a\n    severity: info\n    reason: r\n    when: {condition}\n{given}"
    return [(fault.line, fault.text) for fault in read(text, "f")[1]]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("{measure: score.ewm, lte: 0}", "did you mean score.ewma?"),
        ("{measure: nonsense, lte: 0}", "there are score.mean"),
        ("{measure: score.ewma}", "add gte, gt, lte or lt"),
        ("{measure: score.ewma, lte: -1.5}", "lies between -1 and 1"),
        ("{measure: score.ewma, speaker: any, lte: 0}", "add `speaker: customer`"),
        ("{measure: position_s, speaker: agent, lte: 0}", "leave `speaker` out"),
        ("{measure: score.ewma, lte: low}", "`lte`: expected float | null, got str"),
        ("{label: negatve, turns: 3}", "`label`: invalid enum value"),
        ("{label: negative}", "give one window"),
        ("{label: negative, turns: 3, within: 5s}", "give one window"),
        ("{label: negative, turns: 65}", "a whole number from 1 to 64"),
        ("{label: negative, turns: 0}", "a whole number from 1 to 64"),
        ("{label: negative, within: 601s}", "at most 10m"),
        ("{label: negative, within: 0s}", "above 0"),
        ("{label: negative, within: 5 minutes}", "a span such as 60s"),
        ("{label: negative, turns: 3, share: 1.5}", "a share lies between 0 and 1"),
        ("{label: negative, turns: 3, share: {}}", "add gte, gt, lte or lt"),
        ("{label: negative, turns: 3, share: {above: 1}}", "`above` is not known here: there are gte, gt, lte, lt"),
        ("{label: negative, turns: 3, share: 0.5, count: 2}", "`count` or `share`, not both"),
        ("{label: negative, turns: 3, count: 4}", "between 0 and 3"),
        ("{mean: -0.4, turns: 3}", "e.g. mean: {lte: -0.4}"),
        ("{mean: {lte: -4}, turns: 3}", "a score lies between -1 and 1"),
        ("{drop: 0.5, turns: 40}", "at most 64 together"),
        ("{drop: 0.5, turns: 60, against: 5}", "at most 64 together"),
        ("{rise: 0.5, turns: 3, against: 1.5}", "a whole number of turns"),
        ("{rise: 0.5, turns: 3, against: 60s}", "a whole number of turns"),
        ("{drop: 0.5, within: 6m}", "at most 10m together"),
        ("{drop: 0.5, within: 1m, against: 0s}", "at most 10m together"),
        ("{drop: 0.5, turns: 3, to: {lte: -2}}", "a score lies between"),
        ("{drop: 3, turns: 3}", "`drop`: expected float <= 2.0"),
        ("{streak: negative}", "`turns` is missing"),
        ("{words: '...'}", "neither letters nor digits"),
        ("{words: []}", "`words`: expected"),
        ("{words: a, turns: 3, within: 5s}", "give one window"),
        ("{words: a, count: 9}", "`count`: expected int <= 5"),
        ("{regex: '('}", "single quotes keep backslashes"),
        ("{regex: '(a+)+$'}", "a repetition inside a repetition"),
        ("{silence: 0.5}", "from 1s to 24h"),
        ("{silence: 30x}", "write a span: 30s, 2m"),
        ("{silence: 30s, speaker: agent}", "`speaker` is not known here: there are silence"),
        ("{lable: negative}", "did you mean `label`?"),
        ("{}", "it needs one of all, any, not"),
        ("loud", "a condition is a mapping"),
        ("", "not nothing"),
        ("{words: a, regex: b}", "this is words and regex: put each in an item"),
        ("{all: []}", "`all` needs a list"),
        ("{any: {silence: 30s}}", "`any` needs a list"),
        ("{all: [{silence: 30s}], turns: 3}", "`turns` cannot stand beside `all`"),
        ("{not: [{silence: 30s}]}", "not a list"),
        ("{not: {any: [{silence: 30s}, {silence: x}]}}", "write a span: 30s, 2m"),
    ],
)
def test_a_wrong_condition_is_told_with_its_line_and_the_way_out(condition: str, told: str) -> None:
    [(line, text)] = faults(condition)
    assert (line, told in text) == (5, True), text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"for": "25h"}, "`for` is over 24 h"),
        ({"for": "-1"}, "`for`: expected float >= 0.0"),
        ({"cooldown": "soon"}, "`cooldown`: expected str matching regex"),
        ({"scope": "{chanel: voice}"}, "did you mean `channel`?"),
        ({"scope": "{attributes: [a]}"}, "`attributes`: expected object, got array"),
        ({"scope": "{attributes: {queue: {a: b}}}"}, "`attributes`: expected"),
        ({"escalate": "{to: info, after: 5s}"}, "info is no graver than info"),
        ({"escalate": "[{to: critical, after: 5s}, {to: warning, after: 9s}]"}, "warning is no graver than critical"),
        ({"escalate": "{to: critical}"}, "say when"),
        ({"escalate": "{to: critical, after: 25h}"}, "`after` is over 24 h"),
        ({"escalate": "{to: critical, when: {lable: x}}"}, "did you mean `label`?"),
        ({"until": "{silence: 30}, {}"}, "this is no YAML"),
        ({"until": "{measure: x, gte: 0}"}, "there is no measure x"),
        ({"evidence": "{turns: 6}"}, "expected int <= 5"),
        ({"version": "0"}, "`version`: expected int >= 1"),
        ({"version": "9007199254740992"}, "`version`: expected int <= 9007199254740991"),
        ({"whne": "{}"}, "did you mean `when`?"),
        ({"reason": "again"}, "`reason` is here twice"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line_and_the_way_out(given: dict[str, str], told: str) -> None:
    found = faults(**given)
    assert any(line == 6 and told in text for line, text in found), found


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "a rules file begins with `rules:`"),
        ("- name: a\n", 1, "a rules file begins with `rules:`"),
        ("rule: []\n", 1, "a rules file begins with `rules:`"),
        ("rules:\n", 1, "`rules` needs a list"),
        ("rules: {}\n", 1, "`rules` needs a list"),
        ("# x\nuse: [nobody]\n", 2, "the library has no rule nobody: there are agent_monologue"),
        (GOOD + "more: 1\n", 3, "`more` is not known here"),
        (GOOD + GOOD.split("\n", 1)[1], 3, "there is a rule a already"),
        (GOOD.replace("reason: r", 'reason: "{silence_s:9d}"'), 2, "{silence_s:9d} has no form such as .1f"),
        ("rules:\n  - 7\n", 2, "expected object, got int"),
        ("rules:\n  - name: a\n    when: {silence: 9s}\n", 2, "`severity` is missing: write info, warning or critical"),
        ("rules:\n  - {name: A, severity: info, reason: r, when: {silence: 30s}}\n", 2, "small letters"),
        (
            'rules:\n  - {name: a, severity: info, when: {silence: 30s},\n     reason: "{x}"}\n',
            3,
            "{x} is not compared by the rule",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_line_and_the_way_out(text: str, line: int, told: str) -> None:
    [fault] = read(text, "f")[1]
    assert (fault.line, told in fault.text) == (line, True), fault


def test_all_faults_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = GOOD + "  - {name: b, severity: bad}\nuse: [x]\n" + "more: 1\n"
    assert [fault.line for fault in read(text, "f")[1]] == [3, 4, 5]


def test_a_folder_is_read_in_the_order_of_its_names_and_names_are_unique_in_it(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(GOOD.replace("name: a", "name: later"))
    (tmp_path / "a.yml").write_text(GOOD + "use: [cancellation]\n")
    (tmp_path / ".c.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    assert [rule.ref.name for rule in load(tmp_path).rules] == ["cancellation", "a", "later"]
    (tmp_path / "c.yaml").write_text(GOOD)
    with pytest.raises(RulesError, match=r"c\.yaml:2: there is a rule a already"):
        load(tmp_path)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"rules: \xff")
    for path, told in ((tmp_path / "none.yaml", "No such file"), (tmp_path / "latin.yaml", "UTF-8")):
        with pytest.raises(SettingsError, match=told):
            load(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RulesError, match=r"no \*\.yaml in"):
        load(tmp_path / "empty")


def test_too_many_rules_are_refused(tmp_path: Path) -> None:
    lines = [GOOD.splitlines()[1].replace("name: a", f"name: a{n}") for n in range(201)]
    (tmp_path / "many.yaml").write_text("rules:\n" + "\n".join(lines))
    found, wrong = check(tmp_path / "many.yaml")
    assert (found, [fault.text for fault in wrong]) == (None, ["201 rules are too many: at most 200"])


def test_the_hash_stands_for_the_content_whatever_the_order_of_keys_and_the_comments() -> None:
    same = "# a comment\nrules:\n  - when: {silence: 30s}\n    reason: r\n    name: a\n    severity: info\n"
    assert ruleset(GOOD).hash == ruleset(same).hash
    assert len(ruleset(GOOD).hash) == 12
    others = (GOOD.replace("30s", "31s"), GOOD.replace("info", "warning"), GOOD.replace("name: a", "name: b"))
    assert len({ruleset(text).hash for text in (GOOD, *others)}) == 4


@pytest.mark.parametrize(
    ("span", "ms"), [("500ms", 500), ("30s", 30_000), ("1.5m", 90_000), ("2h", 7_200_000), (12.5, 12_500), (3, 3000)]
)
def test_spans(span: str | float, ms: int) -> None:
    assert milliseconds(span) == ms


def test_three_are_on_by_default_and_twelve_ship_each_with_a_comment_and_a_file_of_its_own() -> None:
    assert tuple(rule.ref.name for rule in load(None).rules) == DEFAULTS
    assert len(library()) == 12
    for name in library():
        assert rules.shipped(name).ref.name == name
        assert (LIBRARY / f"{name}.yaml").read_text().startswith("# ")
    assert [rule.ref.name for rule in load(LIBRARY).rules] == list(library())


def in_scope(scope: str, *turns: Any, language: str | None = None) -> bool:
    found, call = rule("{silence: 30s}", scope=scope), folded(turns or [scored(0)])
    return bool(found.asked(Look(call, 0, Watches(language=language))).rules)


@pytest.mark.parametrize(
    ("scope", "attributes", "applies"),
    [
        ("{attributes: {queue: sales}}", {"queue": "sales"}, True),
        ("{attributes: {queue: sales}}", {"queue": "Sales"}, False),
        ("{attributes: {queue: sales}}", {}, False),
        ("{attributes: {queue: 'sales*'}}", {"queue": "sales-kr"}, True),
        ("{attributes: {queue: [a, 'b?']}}", {"queue": "b1"}, True),
        ("{attributes: {queue: [a, 'b?']}}", {"queue": "b12"}, False),
        ("{attributes: {vip: true}}", {"vip": True}, True),
        ("{attributes: {vip: true}}", {"vip": 1}, False),
        ("{attributes: {tier: 1}}", {"tier": 1}, True),
        ("{attributes: {tier: 1}}", {"tier": True}, False),
        ("{attributes: {tier: 1.5, queue: '*'}}", {"tier": 1.5, "queue": "x"}, True),
        ("{attributes: {tier: 1.5, queue: '*'}}", {"tier": 1.5}, False),
    ],
)
def test_a_scope_is_globs_over_attributes(scope: str, attributes: dict[str, Any], applies: bool) -> None:
    assert in_scope(scope, scored(0, attributes=attributes)) == applies


def test_what_one_call_is_asked_is_not_what_an_equal_looking_one_is() -> None:
    found = rule("{silence: 30s}", scope="{attributes: {vip: true}}")
    calls = [folded([scored(0, attributes={"vip": value})]) for value in (True, 1, 1.0, "true", None)]
    assert [bool(found.asked(Look(call)).rules) for call in calls] == [True, False, False, True, False]


@pytest.mark.parametrize(("channel", "applies"), [("voice", True), ("chat", False)])
def test_a_scope_by_channel(channel: str, applies: bool) -> None:
    assert in_scope("{channel: voi*}", scored(0, channel=channel)) == applies


@pytest.mark.parametrize(
    ("glob", "language", "applies"),
    [("ko", "ko-KR", True), ("ko", "ko", True), ("ko", "KO-kr", True), ("ko", "kok", False), ("ko-*", "ko", False),
     ("[en, ko]", "en-GB", True), ("ko", None, False), ("no", "no", True)],
)  # fmt: skip
def test_a_scope_by_language(glob: str, language: str | None, applies: bool) -> None:
    assert in_scope(f"{{language: {glob}}}", language=language) == applies


def test_the_kinds_of_calls_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SCOPES", 3)
    found = rule("{silence: 30s}", scope="{attributes: {queue: q1}}")
    for n in range(10):
        call = folded([event(0, "start", attributes={"queue": f"q{n}"})])
        assert bool(found.asked(Look(call)).rules) == (n == 1)
        assert len(found.known) <= 3


def test_the_schema_knows_every_word_and_every_measure() -> None:
    made = schema()
    text = json.dumps(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {item["const"] for item in made["$defs"]["Measured"]["properties"]["measure"]["oneOf"]} == set(MEASURES)
    assert set(made["properties"]["use"]["items"]["enum"]) == set(library())
    for word in (*KINDS, "all", "any", "not", "for", "until", "cooldown", "escalate", "evidence", "attributes"):
        assert f'"{word}"' in text
    named = {part["$ref"].rpartition("/")[2] for part in made["$defs"]["condition"]["anyOf"] if "$ref" in part}
    assert named == {kind.__name__ for kind in KINDS.values()}
    references = {ref.rpartition("/")[2] for ref in re.findall(r'"#/\$defs/(\w+)"', text)}
    assert references <= made["$defs"].keys()


def test_the_rules_that_the_readme_shows_are_good_and_so_is_what_it_says_of_bad_ones() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```yaml\n(# yaml-language-server.*?)```", readme, flags=re.DOTALL)
    assert [made.ref.name for made in ruleset(shown).rules] == ["sustained_negative", "long_silence", "vip_refund"]
    wrong = read(shown.replace("score.ewma, lte", "score.ewm, lte").replace("within: 2m", "within: 20m"), "rules.yaml")[1]
    assert "".join(f"    {fault}\n" for fault in wrong) in readme
    assert all(f"`{name}`" in readme for name in library())


def test_a_character_that_json_escapes_in_two_halves_is_one(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    for words in (r'"\ud83d\ude00 refund"', r'"\ud83d refund"'):
        file.write_text(f"rules:\n  - {{name: a, severity: info, reason: {words}, when: {{words: {words}}}}}\n")
        found, wrong = check(file)
        assert (found is not None, wrong) == (True, [])
    file.write_text(r'rules: [{"\ud83d\ude00": 1}]')
    assert "😀" in str(check(file)[1][0])


@pytest.mark.parametrize("span", ["1e999", "9" * 400, "9" * 400 + "s", "9" * 400 + ".5h", "-1e999"])
@pytest.mark.parametrize(
    "given",
    [
        "when: {silence: SPAN}",
        "for: SPAN, when: {silence: 30s}",
        "cooldown: SPAN, when: {silence: 30s}",
        "when: {label: negative, within: SPAN}",
        "when: {drop: 0.5, turns: 3, against: SPAN}",
        "when: {drop: 0.5, within: 10s, against: SPAN}",
        "escalate: {to: critical, after: SPAN}, when: {silence: 30s}",
        "version: SPAN, when: {silence: 30s}",
        "when: {measure: duration_s, gte: SPAN}",
    ],
)
def test_a_span_beyond_all_bounds_is_a_fault_with_its_line(tmp_path: Path, given: str, span: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("rules:\n  - {name: a, severity: info, reason: r, " + given.replace("SPAN", span) + "}\n")
    found, wrong = check(file)
    assert found is None
    assert [fault.line for fault in wrong] == [2]


def test_whatever_a_file_fails_at_is_its_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("too big")

    monkeypatch.setattr(rules, "read", fails)
    (tmp_path / "r.yaml").write_text(GOOD)
    found, (fault,) = check(tmp_path)
    assert (found, fault.line) == (None, 1)
    assert "OverflowError: too big" in str(fault)
