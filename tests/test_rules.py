"""What the built-in rules see in a call: when they hold, when they have passed, and neither in between."""

from dataclasses import replace

import pytest
from builders import folded, scored

from streams.conversation import Conversation
from streams.rules import BUILT_IN, DROP, SUSTAINED, ripe, sharp_drop, sustained_negative


def heard(*scores: float) -> Conversation:
    """A call in which the customer's turns had these scores."""
    return folded(scored(n, score) for n, score in enumerate(scores))


def with_ewma(ewma: float, *scores: float) -> Conversation:
    call = heard(*scores)
    mood = call.customer.mood._replace(ewma=ewma)
    return replace(call, course=call.course._replace(voices={"customer": call.customer._replace(mood=mood)}))


def test_nothing_holds_before_three_customer_turns() -> None:
    assert not ripe(heard(-1, -1))
    assert ripe(heard(-1, -1, -1))
    two = [*(scored(n, -1) for n in (0, 1)), *(scored(n, 0.0, speaker="agent") for n in (2, 3, 4)), scored(5)]
    assert not ripe(folded(two)), "neither the agent's turns nor unscored ones are customer turns"


def test_nothing_holds_before_twenty_seconds() -> None:
    quick = [scored(n, -1, start_ms=n * 5_000, end_ms=n * 5_000 + 4_999) for n in range(4)]
    assert not ripe(folded(quick))
    assert ripe(folded([*quick, scored(4, speaker="agent", start_ms=19_000, end_ms=20_000)]))
    worst = folded(quick)
    assert [rule.see(worst).severity for rule in BUILT_IN] == [None, None]


@pytest.mark.parametrize(
    ("ewma", "severity", "clear"),
    [
        (-0.1, None, True),
        (-0.15, None, True),
        (-0.151, None, False),
        (-0.349, None, False),
        (-0.35, "warning", False),
        (-0.599, "warning", False),
        (-0.6, "critical", False),
    ],
)
def test_sustained_negative_by_its_thresholds(ewma: float, severity: str | None, clear: bool) -> None:
    sight = sustained_negative(with_ewma(ewma, -1, -1, -1))
    assert (sight.severity, sight.clear) == (severity, clear)


@pytest.mark.parametrize(
    ("scores", "severity"),
    [
        ((0, 0, -1, -1, -1), "warning"),
        ((-1, 0, 0, -1, -1, 0), None),
        ((-1, -1, -1, 0, 0, 0), None),
        ((-1, 0, -1, 0), None),
        ((-1, -1, 0), "warning"),
    ],
)
def test_sustained_negative_wants_most_of_the_last_five_turns_negative(scores: tuple[float, ...], severity: str | None) -> None:
    assert sustained_negative(with_ewma(-0.5, *scores)).severity == severity


def test_sustained_negative_shows_the_negative_turns_and_what_it_compared() -> None:
    sight = sustained_negative(with_ewma(-0.51234, 1, -1, 0, -1, -1, -1))
    assert [turn.segment_id for turn in sight.evidence] == ["s1", "s3", "s4", "s5"]
    assert sight.values == {"ewma": -0.512, "negative_turns": 4, "turns": 5}
    assert sight.reason == "The customer stays negative: 4 of the last 5 turns."


@pytest.mark.parametrize(
    ("scores", "severity", "clear"),
    [
        ((0.5, 0.5, -0.5, -0.5, -0.5), "warning", False),
        ((0.25, -0.5, -0.5, -0.5), "warning", False),
        ((0.125, -0.5, -0.5, -0.5), None, False),
        ((1, -0.5, -0.25, -0.25), None, False),
        ((1, 0, 0, -0.25), None, True),
        ((-1, -1, -1), None, False),
        ((1, -1, -1), None, False),
    ],
)
def test_sharp_drop_by_its_thresholds(scores: tuple[float, ...], severity: str | None, clear: bool) -> None:
    sight = sharp_drop(heard(*scores))
    assert (sight.severity, sight.clear) == (severity, clear)


def test_sharp_drop_compares_with_up_to_five_turns_before() -> None:
    sight = sharp_drop(heard(-1, -1, 1, 1, 1, 1, 1, -1, -1, -1))
    assert sight.values == {"before": 1.0, "now": -1.0, "drop": 2.0}
    assert sight.reason == "The customer's mood dropped from +1.0 to -1.0 within three turns."


def test_sharp_drop_shows_the_best_turn_before_and_the_last_three() -> None:
    sight = sharp_drop(heard(0.25, 0.75, 0.5, -1, -1, -1))
    assert [turn.segment_id for turn in sight.evidence] == ["s1", "s3", "s4", "s5"]


def test_the_built_in_rules_have_names_of_their_own() -> None:
    assert [rule.ref for rule in BUILT_IN] == [SUSTAINED, DROP]
    assert SUSTAINED.name != DROP.name
