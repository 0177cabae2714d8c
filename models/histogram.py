"""How often a measure was how large, by buckets: counted where it happens, read when somebody asks. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Histogram:
    """Counts values by bucket: `bounds` are the buckets' upper ends, included, in rising order; one more bucket has what is
    larger. A value below 0 counts as 0, so that `sum` never falls: two clocks may differ. Not guarded: who writes from several
    threads holds a lock of his own."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """The same value, so many times."""
        if value < 0:
            value = 0.0
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def observe_all(self, values: Iterable[float]) -> None:
        for value in values:
            self.observe(value)

    def cumulative(self) -> list[tuple[float, int]]:
        """By each bound, and by infinity, how many values were not larger; the last is how many there were."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))
