"""--no-text and rules: what asks for words is refused, what was measured from words is not measured."""

from pathlib import Path

import pytest
from builders import folded, scored

from streams import cli
from streams.errors import RulesError
from streams.measures import MEASURES
from streams.rules import load
from streams.unheard import refuse_words

RULE = "- {{name: {name}, severity: info, reason: r, when: {when}}}\n"


def rules(tmp_path: Path, **when: str) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n" + "".join(RULE.format(name=name, when=said) for name, said in when.items()), encoding="utf-8")
    return file


def test_the_rules_that_are_on_by_default_go_without_words() -> None:
    refuse_words(load(None))


@pytest.mark.parametrize(
    "when", ["{words: 환불}", "{regex: 'refund.*now'}", "{all: [{silence: 9s}, {not: {words: x}}]}", "{measure: wpm, lt: 80}",
             "{measure: wpm, speaker: agent, lt: 80}", "{measure: bot.repeats, gte: 2}"],
)  # fmt: skip
def test_rules_that_ask_for_words_are_named(tmp_path: Path, when: str) -> None:
    file = rules(tmp_path, quiet="{silence: 30s}", talk=when)
    with pytest.raises(RulesError, match="--no-text: talk would never hold") as caught:
        refuse_words(load(file))
    assert "quiet" not in str(caught.value)


def test_without_texts_nothing_is_measured_of_words() -> None:
    bots = [scored(n, speaker="bot", text="") for n in range(4)]
    call = folded([*bots, *(scored(n, 0.1, text="") for n in range(4, 9))])
    assert MEASURES["wpm"].read(call, "customer") is None
    assert not MEASURES["bot.repeats"].read(call, "bot")
    heard = folded([scored(n, speaker="bot", text="please hold") for n in range(4)])
    assert MEASURES["bot.repeats"].read(heard, "bot") == 3


def test_such_a_worker_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rules(tmp_path, talk="{words: 환불}")
    with pytest.raises(SystemExit) as end:
        cli.main(["worker", "--no-text", "--rules", str(file), "--bootstrap-servers", "127.0.0.1:1"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("callpulse: --no-text: talk would never hold")
