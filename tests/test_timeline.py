"""Labels by time: nothing is lost however long the call, and the quarters are exact to half a bin."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import Label
from streams.timeline import BINS, WEIGHT, Timeline

LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")
turns = st.lists(st.tuples(st.integers(0, 10 * 24 * 3600 * 1000), st.sampled_from(LABELS)), min_size=1, max_size=60)


@given(turns)
def test_the_timeline_keeps_every_turn_in_its_bin_however_wide_the_bins_get(said: list[tuple[int, Label]]) -> None:
    timeline = Timeline()
    for end_ms, label in said:
        timeline = timeline.add(end_ms, label)
    width, last = timeline.width_ms, max(end_ms for end_ms, _ in said)
    doublings = width // 1_000
    assert width == doublings * 1_000
    assert doublings & (doublings - 1) == 0
    assert last // width < BINS <= last // (width // 2) or (width == 1_000 and last // width < BINS)
    inside = [[WEIGHT[label] for end_ms, label in said if end_ms // width == i] for i in range(last // width + 1)]
    expected = [n for bin_ in inside for n in (sum(bin_), len(bin_))]
    assert list(timeline.bins) == expected


@given(turns)
def test_a_timelines_scores_by_quarter_are_within_the_scale_and_the_whole_is_the_balance(
    said: list[tuple[int, Label]],
) -> None:
    timeline = Timeline()
    for end_ms, label in said:
        timeline = timeline.add(end_ms, label)
    end_ms = max(e for e, _ in said)
    balance = sum((s == "positive") - (s == "negative") for _, s in said)
    assert timeline.score(0, end_ms, last=True) == round(5 * balance / len(said), 2)
    quarters = [score for _, _, score in timeline.quarters(end_ms)]
    assert all(q is None or -5 <= q <= 5 for q in quarters)
    assert any(q is not None for q in quarters)


@given(turns, st.randoms(use_true_random=False))
def test_the_order_of_adding_does_not_matter(said: list[tuple[int, Label]], rng: random.Random) -> None:
    made = []
    for _ in range(2):
        timeline = Timeline()
        for end_ms, label in said:
            timeline = timeline.add(end_ms, label)
        made.append(timeline)
        rng.shuffle(said)
    assert made[0] == made[1]


@pytest.mark.parametrize("minutes", [1, 3, 20, 240])
def test_a_turn_is_in_its_quarter_unless_it_ends_within_a_bin_of_the_edge(minutes: int) -> None:
    end_ms = minutes * 60_000
    for i in range(1, 4):
        for shift, expected in ((-1, i - 1), (1, i)):
            at = end_ms * i // 4 + shift * end_ms // 32
            timeline = Timeline().add(at, "negative").add(end_ms, "neutral")
            assert [n for n, (*_, score) in enumerate(timeline.quarters(end_ms)) if score and score < 0] == [expected]
