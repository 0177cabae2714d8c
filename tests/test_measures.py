import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import measures
from models.measures import (
    Bin,
    ClassFigures,
    Interval,
    Metric,
    accuracy,
    calibration,
    confusion,
    expected_calibration_error,
    interval,
    macro_f1,
    per_class,
    percentile,
)

GOLD = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 2]

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)
CONFIDENT = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


def columns(rows: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [gold for gold, _ in rows], [predicted for _, predicted in rows]


def test_confusion_counts_by_gold_and_then_by_predicted() -> None:
    assert confusion(GOLD, PREDICTED) == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert confusion([], []) == [[0, 0, 0]] * 3


def test_the_figures_of_each_class() -> None:
    assert per_class(confusion(GOLD, PREDICTED)) == [
        ClassFigures("negative", precision=1.0, recall=2 / 3, f1=4 / 5, support=3),
        ClassFigures("neutral", precision=1 / 2, recall=1 / 2, f1=1 / 2, support=2),
        ClassFigures("positive", precision=1 / 2, recall=1.0, f1=2 / 3, support=1),
    ]


def test_a_class_that_does_not_occur_is_all_zeros() -> None:
    assert per_class(confusion([0], [0]))[2] == ClassFigures("positive", 0.0, 0.0, 0.0, 0)


def test_macro_f1_is_the_mean_over_the_classes_that_occur_in_gold() -> None:
    assert macro_f1(GOLD, PREDICTED) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert macro_f1([0, 0, 1], [0, 2, 1]) == pytest.approx((2 / 3 + 1) / 2)  # 2 is predicted, but no row's
    assert macro_f1([0, 1, 2], [1, 2, 0]) == 0


def test_accuracy_is_the_share_that_is_right() -> None:
    assert accuracy(GOLD, PREDICTED) == pytest.approx(4 / 6)


@pytest.mark.parametrize("metric", [macro_f1, accuracy])
def test_nothing_cannot_be_measured(metric: Metric) -> None:
    with pytest.raises(ValueError, match="no rows"):
        metric([], [])


@given(ROWS)
def test_a_perfect_prediction_is_1(rows: list[tuple[int, int]]) -> None:
    gold, _ = columns(rows)
    assert macro_f1(gold, gold) == accuracy(gold, gold) == 1


@given(ROWS, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, int]], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    for metric in (macro_f1, accuracy):
        assert metric(*columns(rows)) == metric(*columns(shuffled))
        assert interval(metric, *columns(rows), 50) == interval(metric, *columns(shuffled), 50)


@given(ROWS)
def test_the_interval_holds_the_figure_itself(rows: list[tuple[int, int]]) -> None:
    for metric in (macro_f1, accuracy):
        around = interval(metric, *columns(rows), 200)
        assert 0 <= around.low <= metric(*columns(rows)) + 1e-12
        assert metric(*columns(rows)) - 1e-12 <= around.high <= 1


def test_an_interval_is_about_two_standard_errors_to_both_sides() -> None:
    # 64 of 100 are right: the standard error is sqrt(.64 * .36 / 100) = .048
    around = interval(accuracy, [0] * 100, [0] * 64 + [1] * 36)
    assert around.low == pytest.approx(0.64 - 1.96 * 0.048, abs=0.02)
    assert around.high == pytest.approx(0.64 + 1.96 * 0.048, abs=0.02)


def test_the_seed_decides_the_interval() -> None:
    gold, predicted = [0, 1, 2] * 30, [0, 1, 1, 2, 1, 2] * 15
    assert interval(macro_f1, gold, predicted) == interval(macro_f1, gold, predicted)
    assert interval(macro_f1, gold, predicted) != interval(macro_f1, gold, predicted, seed=2)
    assert interval(macro_f1, gold, gold) == Interval(1.0, 1.0)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.01, 0.2, 0.5, 0.99, 1)] == [1, 1, 3, 5, 5]


def test_bins_hold_what_is_above_their_low_and_at_most_their_high() -> None:
    assert calibration([0.5, 0.51, 1.0, 0.0], [True, False, True, False], bins=2) == [
        Bin(0.0, 0.5, rows=2, confidence=0.25, accuracy=0.5),
        Bin(0.5, 1.0, rows=2, confidence=0.755, accuracy=0.5),
    ]


def test_there_are_15_bins_and_those_without_rows_are_zeros() -> None:
    bins = calibration([0.95], [True])
    assert len(bins) == 15
    assert [b.rows for b in bins] == [0] * 14 + [1]
    assert bins[0] == Bin(0.0, 1 / 15, 0, 0.0, 0.0)


def test_the_calibration_error_by_hand() -> None:
    # 4 rows at .9 of which 3 are right: |.75 - .9| = .15; 1 row at .5, wrong: .5; (4 * .15 + 1 * .5) / 5 = .22
    bins = calibration([0.9, 0.9, 0.9, 0.9, 0.5], [True, True, True, False, False])
    assert expected_calibration_error(bins) == pytest.approx(0.22)
    assert expected_calibration_error(calibration([], [])) == 0
    assert expected_calibration_error(calibration([1.0] * 3, [True] * 3)) == 0


@given(CONFIDENT, st.randoms())
def test_the_calibration_error_is_a_share_and_does_not_depend_on_the_order(
    rows: list[tuple[float, bool]], rng: random.Random
) -> None:
    errors = []
    for ordered in (rows, rng.sample(rows, len(rows))):
        bins = calibration([confidence for confidence, _ in ordered], [right for _, right in ordered])
        assert sum(b.rows for b in bins) == len(rows)
        errors.append(expected_calibration_error(bins))
    assert 0 <= errors[0] <= 1
    assert errors[0] == errors[1]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_the_interval_of_a_calibration_error_is_within_what_an_error_can_be(rows: list[tuple[float, bool]]) -> None:
    found = measures.error_interval([c for c, _ in rows], [r for _, r in rows], resamples=20)
    assert 0 <= found.low <= found.high <= 1
    sure = measures.error_interval([1.0] * 9, [True] * 9, resamples=20)
    assert (sure.low, sure.high) == (0, 0)
