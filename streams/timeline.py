"""Labels of one speaker's turns by time, in bins that widen: what Contact Lens's quarters are read from. Pure."""

from collections.abc import Mapping
from math import ceil

from msgspec import Struct

from streams.records import Label
from streams.turns import Turn

BINS = 64
WEIGHT: dict[Label, int] = {"negative": -1, "neutral": 0, "positive": 1}


class Timeline(Struct, frozen=True, array_like=True):
    """`bins` are flat: for each i the balance (positive less negative) and the number of turns that end in [i, i + 1) x
    `width_ms`. A call that outgrows them doubles their width, so a turn is placed to 1/32 of the call. The order of adding does
    not matter."""

    width_ms: int = 1_000
    bins: tuple[int, ...] = ()

    def add(self, end_ms: int, label: Label) -> "Timeline":
        width, bins = self.width_ms, list(self.bins)
        while end_ms // width >= BINS:
            bins = _halved(bins)
            width *= 2
        at = 2 * (end_ms // width)
        if at >= len(bins):
            bins += [0] * (at + 2 - len(bins))
        bins[at] += WEIGHT[label]
        bins[at + 1] += 1
        return Timeline(width, tuple(bins))

    def score(self, begin_ms: float, end_ms: float, last: bool) -> float | None:
        """5 x (positive - negative) / turns over the bins whose middle lies in [begin, end), with all that follow where it is
        the last; None without a turn."""
        first = max(0, ceil(begin_ms / self.width_ms - 0.5))
        behind = None if last else max(0, ceil(end_ms / self.width_ms - 0.5))
        inside = self.bins[2 * first : None if behind is None else 2 * behind]
        balance, turns = sum(inside[::2]), sum(inside[1::2])
        return round(5 * balance / turns, 2) if turns else None

    def quarters(self, end_ms: int) -> tuple[tuple[int, int, float | None], ...]:
        """Begin, end and score of the four quarters of a speaker's time, which ends with the speaker's last word."""
        edges = [end_ms * i // 4 for i in range(5)]
        return tuple((edges[i], edges[i + 1], self.score(edges[i], edges[i + 1], last=i == 3)) for i in range(4))


def _halved(bins: list[int]) -> list[int]:
    """Two bins in one."""
    even = [*bins, 0, 0] if len(bins) % 4 else bins
    return [even[i] + even[i + 2] for n in range(0, len(even), 4) for i in (n, n + 1)]


def timed(timelines: Mapping[str, Timeline], turn: Turn) -> Mapping[str, Timeline]:
    """The timelines by speaker with one more turn, if it was scored."""
    if turn.label is None:
        return timelines
    return {**timelines, turn.speaker: timelines.get(turn.speaker, Timeline()).add(turn.end_ms, turn.label)}
