"""Turns that come late or out of order: the course of a call is the same as if they had come in order. Pure.

What is older than 30 s of the call is settled: folded for good. The turns since are kept, and what is known now is the settled
course with them on top. A turn that comes later still is folded where it comes.
"""

from bisect import bisect_right
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from streams.course import Course
from streams.kept import Turns, pack
from streams.turns import Turn, order

LATE_MS = 30_000
TURNS = 64  # turns of all speakers that are kept, and no longer than WINDOW_MS; a call with more in 30 s settles them earlier
WINDOW_MS = 600_000


NONE = Turns()


class Line(Struct, frozen=True):
    """The turns that are kept, in order, of which the last `unsettled` are not folded into `settled`; `now` has them all.
    `gone` are those that the last step has let go."""

    turns: Turns = NONE
    unsettled: int = 0
    settled: Course = Course()
    now: Course = Course()
    gone: Turns = NONE

    def take(self, turn: Turn, at_ms: int) -> "Line":
        """With one more turn, in a call that has come to `at_ms`."""
        turns, unsettled, settled = self.turns, self.unsettled, self.settled
        late = bool(turns) and order(turn) < order(turns[-1])
        place = bisect_right(turns, order(turn), key=order) if late else len(turns)
        bound = len(turns) - unsettled
        turns = turns.inserted(place, turn)
        if place < bound:  # later than the bound
            settled = settled.add(turn)
        else:
            unsettled += 1
        now = folded(settled, turns[len(turns) - unsettled :]) if late else self.now.add(turn)
        return _settled(turns, unsettled, settled, now, at_ms)

    def moved(self, by_ms: int) -> "Line":
        """With all turns so much later: of a call none of whose turns has gone."""
        turns = [replace(turn, start_ms=turn.start_ms + by_ms, end_ms=turn.end_ms + by_ms) for turn in self.turns]
        settled = folded(Course(), turns[: len(turns) - self.unsettled])
        now = folded(settled, turns[len(turns) - self.unsettled :])
        return Line(Turns(b"".join(map(pack, turns))), self.unsettled, settled, now)


def _settled(turns: Turns, unsettled: int, settled: Course, now: Course, at_ms: int) -> Line:
    """What is older than it must be is folded for good, or gone."""
    count = len(turns)
    gone = max(0, count - TURNS)
    while turns[gone].end_ms < at_ms - WINDOW_MS and gone + 1 < count:
        gone += 1
    due = count - unsettled
    while due < count and (due < gone or turns[due].end_ms < at_ms - LATE_MS):
        settled = settled.add(turns[due])
        due += 1
    return Line(turns[gone:], count - due, settled, now, turns[:gone]) if gone else Line(turns, count - due, settled, now)


def folded(course: Course, turns: Iterable[Turn]) -> Course:
    """The course with these turns on top."""
    for turn in turns:
        course = course.add(turn)
    return course
