"""The bundled calls through the pure pipeline with the checkpoint that ships: who is told, and who is left alone."""

import re
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pytest

import models
from streams.pipeline import judged, score
from streams.recording import read
from streams.records import Alert, Scored
from streams.settings import Settings

ROOT = Path(__file__).parents[1]
CALLS = ROOT / "streams" / "calls"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@cache
def alerts(name: str) -> list[Alert]:
    return alerts_of(CALLS / f"{name}.jsonl")


def alerts_of(path: Path) -> list[Alert]:
    settings = Settings()
    records = list(read(str(path)))
    scored = score(records, models.load("default", "cpu", threads=1), settings.policy, "bundled", lambda: NOW)
    assert all(isinstance(one, Scored) for one in scored)
    return judged([one for one in scored if isinstance(one, Scored)], settings.limits).alerts


def test_a_calm_call_full_of_strong_words_alerts_nobody() -> None:
    assert alerts("en-routine") == []


@pytest.mark.parametrize("name", ["en-escalating", "ko-escalating"])
def test_an_escalating_call_is_told_with_the_turns_that_it_is_made_of(name: str) -> None:
    opened = [alert for alert in alerts(name) if alert.event == "open"]
    assert opened
    assert all(turn.score < 0 for turn in opened[0].evidence)
    assert alerts(name)[-1].reason == "The call is over."


@pytest.mark.parametrize("name", ["en-escalating", "ko-escalating"])
def test_a_call_that_goes_on_escalating_becomes_critical(name: str) -> None:
    assert [a.severity for a in alerts(name) if a.rule.name == "sustained_negative" and a.event in ("open", "escalate")] == [
        "info", "warning", "critical"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["en-resolved"])
def test_a_call_that_is_put_right_is_told_and_then_taken_back(name: str) -> None:
    assert {alert.reason for alert in alerts(name) if alert.event == "resolve"} == {"The customer has recovered."}


def test_the_call_of_ones_own_that_the_readme_shows_alerts(tmp_path: Path) -> None:
    [shown] = re.findall(
        r"cat > call\.txt <<'END'\n(.*?) +END\n", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    path = tmp_path / "call.txt"
    path.write_text("".join(f"{line.strip()}\n" for line in shown.splitlines()))
    assert [alert.event for alert in alerts_of(path)][:1] == ["open"]
