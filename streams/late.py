"""Turns that come late or out of order: the course of a call is the same as if they had come in order. Pure.

What is older than 30 s of the call is settled: folded for good. The turns since are kept, and what is known now is the settled
course with them on top. A turn that comes later still is folded where it comes.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from streams.course import Course
from streams.kept import Turns, pack
from streams.turns import Turn, order

LATE_MS = 30_000
TURNS = 64  # turns of all speakers that are kept, and no longer than WINDOW_MS; a call with more in 30 s settles them earlier
WINDOW_MS = 600_000


NONE = Turns()


class Line(NamedTuple):
    """The turns that are kept, in order, of which the last `unsettled` are not folded into `settled`; `now` has them all."""

    turns: Turns = NONE
    unsettled: int = 0
    settled: Course = Course()
    now: Course = Course()

    def take(self, turn: Turn, at_ms: int) -> "Line":
        """With one more turn, in a call that has come to `at_ms`."""
        turns, unsettled, settled, now = self
        place = bisect_right(turns, order(turn), key=order) if turns and order(turn) < order(turns[-1]) else len(turns)
        late = place < len(turns)
        settled_turns = len(turns) - unsettled
        turns = turns.inserted(place, turn)
        if place < settled_turns:  # later than the bound
            settled = settled.add(turn)
        else:
            unsettled += 1
        now = folded(settled, turns[len(turns) - unsettled :]) if late else now.add(turn)
        return Line(turns, unsettled, settled, now)._settle(at_ms)

    def moved(self, by_ms: int) -> "Line":
        """With all turns so much later: of a call none of whose turns has gone."""
        turns = [turn._replace(start_ms=turn.start_ms + by_ms, end_ms=turn.end_ms + by_ms) for turn in self.turns]
        settled = folded(Course(), turns[: len(turns) - self.unsettled])
        now = folded(settled, turns[len(turns) - self.unsettled :])
        return Line(Turns(b"".join(map(pack, turns))), self.unsettled, settled, now)

    def _settle(self, at_ms: int) -> "Line":
        turns, unsettled, settled, now = self
        gone = max(0, len(turns) - TURNS)
        while gone < len(turns) and turns[gone].end_ms < at_ms - WINDOW_MS:
            gone += 1
        due = len(turns) - unsettled
        while due < len(turns) and (due < gone or turns[due].end_ms < at_ms - LATE_MS):
            settled = settled.add(turns[due])
            due += 1
        return Line(turns[gone:] if gone else turns, len(turns) - due, settled, now)


def folded(course: Course, turns: Iterable[Turn]) -> Course:
    """The course with these turns on top."""
    for turn in turns:
        course = course.add(turn)
    return course
