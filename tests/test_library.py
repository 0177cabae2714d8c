"""The rules that ship, over hand-made calls: each fires on what it is for, and none on a routine call."""

from pathlib import Path
from typing import Any

import pytest
from builders import event, scored
from msgspec.structs import replace

from streams.conversation import Limits
from streams.pipeline import judged
from streams.records import Alert, Scored
from streams.rules import DEFAULTS, LIBRARY, RuleSet, library, load, rule_set, shipped

Said = tuple[str, float | None, str]
"""Speaker, score (None: not scored), text."""


def call(*said: Said, **given: Any) -> list[Scored]:
    """A turn every ten seconds, four seconds long; `given` is said of the whole call."""
    start, end = event(0, "start", **given), event(len(said) + 1, "end")
    turns = [scored(n, score, speaker=speaker, text=text) for n, (speaker, score, text) in enumerate(said, 1)]
    return [start, *turns, end]


def customer(*scores: float, text: str = "yes it is") -> list[Said]:
    return [("customer", score, text) for score in scores]


def opened(turns: list[Scored], rules: RuleSet) -> list[Alert]:
    return [alert for alert in judged(turns, Limits(), rules).alerts if alert.event == "open"]


def spread(turns: list[Scored], seconds: int) -> list[Scored]:
    """The turns so long that each begins while the one before is spoken."""
    return [t if t.end_ms is None else replace(t, end_ms=t.end_ms + 1000 * seconds) for t in turns]


def late(turns: list[Scored], seconds: int) -> list[Scored]:
    """The end comes so much later."""
    *before, last = turns
    return [*before, replace(last, source=replace(last.source, timestamp=last.source.timestamp + 1000 * seconds))]


GRUMBLE: list[Said] = [("customer", -0.9, "i called about this for the third time"), ("customer", -0.9, "nobody helps me")]
FIRES: dict[str, list[Scored]] = {
    "agent_monologue": call(*customer(0.0, 0.0, 0.0, 0.0), *[("agent", None, "as our terms say")] * 17),
    "bot_stuck": call(*[("bot", None, "please say your account number"), ("customer", 0.0, "it is nine")] * 3),
    "cancellation": call(*customer(-0.9, -0.9), ("customer", -0.9, "then close my account")),
    "legal_threat": call(("customer", -0.9, "you'll hear from my lawyer")),
    "long_silence": late(call(*customer(0.0, 0.0)), 60),
    "refund_dispute": call(*customer(-0.9, -0.9, -0.9, text="i want my money back")),
    "repeat_contact": call(*GRUMBLE),
    "sharp_drop": call(*customer(0.5, 0.5, 0.5, -0.9, -0.9, -0.9)),
    "supervisor_request": call(("customer", 0.0, "let me speak to your manager")),
    "sustained_negative": call(*customer(-0.9, 0.0, -0.9, 0.0, -0.9, -0.9)),
    "talking_over": spread(call(*[("agent", None, "but"), ("customer", 0.0, "no but")] * 4), 9),
    "vip_unhappy": call(*customer(-0.9, -0.9, -0.9), attributes={"queue": "vip-en"}),
}
"""A call a rule, on which it opens once."""

KOREAN = {
    "cancellation": "그냥 해지해 주세요",
    "legal_threat": "소비자원에 신고할게요",
    "refund_dispute": "환불을 해 주셔야죠",
    "repeat_contact": "지금 세 번째 전화예요",
    "supervisor_request": "윗분 바꿔 주세요",
}

ROUTINE: list[Said] = [
    ("agent", None, "good morning what can i do for you"),
    ("customer", 0.0, "i'd like to cancel a direct debit the solicitor said i should"),
    ("agent", None, "of course which one is it"),
    ("customer", -0.9, "the second one for the gym it's the one i never use"),
    ("agent", None, "that is done and the refund takes five days"),
    ("customer", 0.0, "is the refund for the whole month"),
    ("agent", None, "yes it is"),
    ("customer", -0.6, "and there is no fee is there"),
    ("customer", 0.9, "lovely thank you very much"),
]


def test_every_rule_that_ships_has_a_call_on_which_it_fires() -> None:
    assert set(FIRES) == set(library())


@pytest.mark.parametrize("name", sorted(FIRES))
def test_a_rule_opens_once_on_what_it_is_for(name: str) -> None:
    (alert,) = opened(FIRES[name], rule_set([shipped(name)]))
    assert alert.rule.name == name
    assert "{" not in alert.reason
    assert "–" not in alert.reason  # the reason names what is not there with a dash


@pytest.mark.parametrize("name", sorted(KOREAN))
def test_words_are_heard_in_korean_too(name: str) -> None:
    assert len(opened(call(*customer(-0.9, -0.9, -0.9, text=KOREAN[name])), rule_set([shipped(name)]))) == 1


@pytest.mark.parametrize("attributes", [{}, {"queue": "vip-en"}])
def test_the_whole_library_is_silent_on_a_routine_call(attributes: dict[str, str]) -> None:
    assert opened(call(*ROUTINE, attributes=attributes), load(LIBRARY)) == []


@pytest.mark.parametrize("name", ["cancellation", "refund_dispute", "repeat_contact"])
def test_words_that_routine_calls_hold_are_no_alert_without_the_mood(name: str) -> None:
    assert opened([replace(t, sentiment=scored(0, 0.0).sentiment) if t.sentiment else t for t in FIRES[name]],
                  rule_set([shipped(name)])) == []  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ((-0.9,), []),
        ((-0.9, -0.9), []),
        ((-0.9, -0.9, -0.9), ["info"]),
        ((0.0, -0.9, 0.0, -0.9, 0.0, -0.9), ["info"]),
        ((-0.9, 0.0, 0.0, 0.0, -0.9, 0.0, -0.9), []),  # two of the last six
        ((-0.6, 0.0, -0.6, 0.0, -0.6), []),  # not clearly negative
        ((-0.9,) * 5, ["info", "warning"]),
        ((-0.9,) * 9, ["info", "warning", "critical"]),
    ],
)
def test_a_customer_who_stays_negative_is_told_and_graver_the_longer_it_lasts(
    scores: tuple[float, ...], told: list[str]
) -> None:
    alerts = judged(call(*customer(*scores)), Limits(), rule_set([shipped("sustained_negative")])).alerts
    assert [alert.severity for alert in alerts if alert.event in ("open", "escalate")] == told


def test_what_stays_negative_passes_once_the_customer_has_recovered_and_not_before() -> None:
    turns = call(*customer(-0.9, -0.9, -0.9, 0.0, 0.0, *[0.9] * 5))
    alerts = judged(turns, Limits(), rule_set([shipped("sustained_negative")])).alerts
    assert [(alert.event, alert.reason) for alert in alerts if alert.event == "resolve"] == [
        ("resolve", "The customer has recovered.")
    ]


@pytest.mark.parametrize(
    ("scores", "drops"),
    [
        ((0.5, 0.5, 0.5, -0.9, -0.9), False),  # two turns are not three
        ((-0.9, -0.9, -0.9, -0.9, -0.9, -0.9), False),  # it was never better
        ((0.0, 0.0, 0.0, -0.6, -0.6, -0.3), False),
        ((0.0, 0.0, 0.0, -0.9, -0.9, -0.9), True),
    ],
)
def test_a_drop_is_from_clearly_better_to_clearly_negative(scores: tuple[float, ...], drops: bool) -> None:
    assert bool(opened(call(*customer(*scores)), rule_set([shipped("sharp_drop")]))) == drops


def test_the_rules_on_by_default_are_for_any_language() -> None:
    assert [rule.ref.name for rule in load(None).rules] == list(DEFAULTS)
    assert not load(None).listeners  # they go without words


def test_the_readme_shows_the_figures_of_these_rules_and_what_each_is() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"rules {load(None).hash} alerts" in readme  # changed rules are to be measured again
    for name in library():
        severity = shipped(name).severity
        on = " (on)" if name in DEFAULTS else ""
        assert f"| `{name}`{on} | {severity}" in readme
