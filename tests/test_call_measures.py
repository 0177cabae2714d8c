"""What can be measured in a call: each measure by hand, all of them in their range, windows by number and by time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import folded, scored
from hypothesis import given, settings
from hypothesis import strategies as st
from test_late import said, spoken

from streams.conversation import Conversation
from streams.measures import MEASURES, STEADY, Measure, band, measured, side, window
from streams.records import SPEAKERS, Model, Scored


def heard(*scores: float) -> Conversation:
    """A call in which the customer's turns had these scores."""
    return folded(scored(n, score) for n, score in enumerate(scores))


def value(name: str, call: Conversation, speaker: str = "customer") -> float | None:
    return MEASURES[name].read(call, speaker)


SIX = heard(-1, -0.8, -0.6, 0.2, 0.6, 1)
TALK = folded(
    [
        scored(0, speaker="agent", start_ms=2_000, end_ms=8_000, text="one two three"),
        scored(1, -1, start_ms=10_000, end_ms=16_000, text="환불이 아직도 안 들어왔어요"),
        scored(2, speaker="agent", start_ms=15_000, end_ms=21_000, text="four five six seven eight nine"),
    ]
)
BOT = folded(
    [
        scored(0, speaker="bot", text="yes or no"),
        scored(1, -1),
        scored(2, speaker="bot", text="Yes or no"),
        scored(3, -0.5),
        scored(4, speaker="agent"),
        scored(5, 0.5),
    ]
)
EXPECTED: Sequence[tuple[str, Conversation, str, float | None]] = [
    ("score.mean", SIX, "customer", -0.1),
    ("score.mean", SIX, "agent", None),
    ("score.mean", TALK, "agent", None),
    ("score.ewma", heard(-1, 1), "customer", 0.09),
    ("score.last", SIX, "customer", 1),
    ("score.last3", SIX, "customer", 0.6),
    ("score.last3", heard(-1, 1), "customer", 0),
    ("score.last5", SIX, "customer", 0.08),
    ("score.low", heard(-1, -1, 1), "customer", -0.51),
    ("score.quarter", heard(-1, -1, -1, 1), "customer", 5),
    ("score.quarter", TALK, "agent", None),
    ("score.overall", heard(-1, -1, -1, 1), "customer", -2.5),
    ("score.overall", TALK, "agent", None),
    ("trend", SIX, "customer", 1.4),
    ("trend", heard(-1, -1, 1, 1), "customer", 2),
    ("trend", heard(0, 0, 0, -1, -1), "customer", -1),
    ("trend", heard(-1, 1, 1), "customer", None),
    ("shift", SIX, "customer", 1.4),
    ("shift", heard(-1, -1, -1, 0, 1, 1, 1), "customer", 2),
    ("shift", heard(-1, -1, -1, 1, 1), "customer", None),
    ("recovery", heard(-1, -1, 1), "customer", 0.453),
    ("recovery", heard(-1, -1), "customer", 0),
    ("streak.negative", heard(1, -1, -1), "customer", 2),
    ("streak.negative", SIX, "customer", 0),
    ("streak.positive", SIX, "customer", 2),
    ("streak.negative_longest", heard(-1, -1, 0, -1), "customer", 2),
    ("turns.said", TALK, "agent", 2),
    ("turns.said", TALK, "bot", None),
    ("turns.scored", SIX, "customer", 6),
    ("turns.negative", SIX, "customer", 3),
    ("turns.positive", SIX, "customer", 2),
    ("talk_s", TALK, "agent", 12),
    ("talk_share", TALK, "agent", 2 / 3),
    ("talk_share", TALK, "bot", None),
    ("wpm", TALK, "agent", 45),
    ("wpm", TALK, "customer", 40),
    ("wpm", heard(1), "customer", None),
    ("interruptions", TALK, "agent", 1),
    ("interruptions", TALK, "customer", 0),
    ("since_spoke_s", TALK, "customer", 5),
    ("since_spoke_s", TALK, "system", None),
    ("position_s", TALK, "customer", 21),
    ("duration_s", TALK, "customer", 19),
    ("silence_s", TALK, "customer", 2),
    ("overlap_s", TALK, "customer", 1),
    ("since_customer_spoke_s", TALK, "agent", 5),
    ("handover_s", BOT, "customer", 40),
    ("handover_s", TALK, "customer", None),
    ("bot.score", BOT, "agent", -0.75),
    ("bot.score", TALK, "agent", None),
    ("agent.score", BOT, "agent", 0.5),
    ("agent.score", SIX, "customer", None),
    ("bot.repeats", BOT, "customer", 1),
    ("bot.repeats", TALK, "customer", None),
]


@pytest.mark.parametrize(("name", "call", "speaker", "expected"), EXPECTED)
def test_by_hand(name: str, call: Conversation, speaker: str, expected: float | None) -> None:
    found = value(name, call, speaker)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_every_measure_is_known_by_its_name_says_what_it_is_and_is_tested_here() -> None:
    assert {name for name, *_ in EXPECTED} == set(MEASURES)
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.about.endswith(".")
        assert "\n" not in measure.about
        assert measure.unit in ("score", "points", "turns", "times", "s", "share", "words/min")
        assert measure.low < measure.high


def test_the_readme_lists_them_all() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = "".join(f"| `{m.name}` | {m.unit} | {_range(m)} | {m.about} |\n" for m in MEASURES.values())
    assert table in readme


def _range(measure: Measure) -> str:
    return f"{measure.low:g} to {measure.high:g}" if measure.high <= 5 else f"from {measure.low:g}"


@settings(max_examples=100, deadline=None)
@given(st.lists(said, min_size=1, max_size=40), st.sampled_from(SPEAKERS))
def test_every_measure_stays_in_its_range(turns: list[tuple[Any, ...]], speaker: str) -> None:
    call = folded(spoken(turns))
    for measure in MEASURES.values():
        found = measure.read(call, speaker)
        assert found is None or measure.low - 1e-9 <= found <= measure.high + 1e-9, measure.name


def test_a_call_in_which_nobody_spoke_has_its_position_and_nothing_else() -> None:
    silent = folded([scored(0, -1, final=False)])
    assert measured(silent, "customer") == {}
    assert measured(silent, None) == {"position_s": 0.0}


def test_shift_and_trend_never_compare_two_revisions() -> None:
    def call(revision: str) -> Conversation:
        after = [scored(n, 1, model=Model("fake", revision, "exact")) for n in range(6, 11)]
        return folded([*(scored(n, -1) for n in range(6)), *after])

    assert (value("shift", call("1")), value("trend", call("1"))) == (pytest.approx(2), pytest.approx(2 / 3))
    assert (value("shift", call("2")), value("trend", call("2"))) == (None, 0)
    low = 0.7 * -0.882351 + 0.3  # with the first turn of the new revision
    assert value("score.low", call("2")) == pytest.approx(low)
    assert value("recovery", call("2")) == pytest.approx((value("score.ewma", call("2")) or 0) - low)


@pytest.mark.parametrize(
    ("trend", "expected"),
    [(-STEADY, "worsening"), (-STEADY + 0.01, "steady"), (STEADY - 0.01, "steady"), (STEADY, "improving")],
)
def test_a_trend_has_a_word(trend: float, expected: str) -> None:
    assert band(trend) == expected


def test_unknown_speakers_stand_for_the_customer_until_one_is_scored() -> None:
    unknown = [scored(0, -1, speaker="unknown"), scored(1, None)]
    assert side(folded(unknown), "customer") == "unknown"
    assert value("turns.negative", folded(unknown)) == 1
    known = folded([*unknown, scored(2, 1)])
    assert (side(known, "customer"), value("turns.negative", known)) == ("customer", 0)
    assert value("since_customer_spoke_s", folded(unknown)) == 0


def mixed() -> list[Scored]:
    """A turn every 10 s, of customer and agent by turns; every second of the customer's is scored."""
    return [scored(n, 0.5 if n % 4 == 0 else None, speaker=("customer", "agent")[n % 2]) for n in range(20)]


@pytest.mark.parametrize(
    ("speaker", "limits", "ends"),
    [
        ("customer", {}, [4, 44, 84, 124, 164]),
        ("customer", {"turns": 2}, [124, 164]),
        ("customer", {"turns": 0}, []),
        ("customer", {"turns": 3, "scored": False}, [144, 164, 184]),
        ("customer", {"seconds": 70.0}, [124, 164]),
        ("customer", {"seconds": 69.9}, [164]),
        ("customer", {"turns": 1, "seconds": 70.0}, [164]),
        ("agent", {}, []),
        ("agent", {"turns": 2, "scored": False}, [174, 194]),
        (None, {"turns": 3, "scored": False}, [174, 184, 194]),
        (None, {"turns": 1}, [164]),
    ],
)
def test_a_window_reaches_back_by_number_and_by_time(speaker: str | None, limits: dict[str, Any], ends: list[int]) -> None:
    assert [turn.end_ms // 1000 for turn in window(folded(mixed()), speaker, **limits)] == ends


def test_the_customers_window_has_unknown_speakers_where_no_customer_was_scored() -> None:
    call = folded([scored(0, -1, speaker="unknown"), scored(1, 1, speaker="unknown")])
    assert [turn.score for turn in window(call, "customer")] == [-1, 1]
