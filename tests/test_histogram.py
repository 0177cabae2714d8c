"""Buckets: nothing is lost, and each bound says how many were not larger."""

from hypothesis import given
from hypothesis import strategies as st

from models.histogram import Histogram

BOUNDS = (0.5, 1.0, 2.5)
values = st.lists(st.floats(0, 10) | st.sampled_from(BOUNDS))


@given(values)
def test_each_bucket_has_all_that_is_not_larger_and_the_last_has_all(seen: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe_all(seen)
    assert histogram.cumulative() == [(end, sum(value <= end for value in seen)) for end in (*BOUNDS, float("inf"))]
    assert histogram.cumulative()[-1][1] == sum(histogram.counts) == len(seen)
    assert histogram.sum == sum(seen)


@given(st.floats(0, 10), st.integers(0, 9))
def test_many_at_once_are_as_many_one_by_one(value: float, times: int) -> None:
    once, each = Histogram(BOUNDS), Histogram(BOUNDS)
    once.observe(value, times)
    each.observe_all([value] * times)
    assert once.counts == each.counts
    assert abs(once.sum - each.sum) < 1e-9


def test_what_two_clocks_make_negative_counts_as_nothing() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(-3.0)
    assert (histogram.counts, histogram.sum) == ([1, 0, 0, 0], 0.0)
