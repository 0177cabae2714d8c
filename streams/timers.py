"""When calls are due, by the source partition ("lane") whose clock they wait for; how far a record may move it. Pure."""

import heapq
from collections.abc import Iterator

from msgspec.structs import replace

from streams.conversation import epoch_ms
from streams.records import Scored

AHEAD_MS = 3_600_000
"""How far a record's time may run ahead of its scoring: one stamped next year must not end every call of its lane. A fast
replay does run ahead; brokers themselves refuse more than an hour by default (message.timestamp.after.max.ms)."""


def bounded(scored: Scored) -> Scored:
    """As it counts for the clock of its lane."""
    latest = epoch_ms(scored.scored_at) + AHEAD_MS
    return scored if scored.source.timestamp <= latest else replace(scored, source=replace(scored.source, timestamp=latest))


class Timers:
    """One timer a call and lane is enough while it is not late: who finds that a call's due time has moved on puts it back."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, str]]] = {}
        self._at: dict[tuple[str, str], int] = {}

    def __iter__(self) -> Iterator[str]:
        """The lanes."""
        return iter(self._heaps)

    def __len__(self) -> int:
        """How many are kept, those included that an earlier one has replaced."""
        return sum(map(len, self._heaps.values()))

    def put(self, lane: str, call_id: str, due: int) -> None:
        """Sets a call's timer, unless there is one that is not later (ms since 1970)."""
        if due < self._at.get((lane, call_id), due + 1):
            self._at[lane, call_id] = due
            heapq.heappush(self._heaps.setdefault(lane, []), (due, call_id))

    def due(self, lane: str, clock: int) -> Iterator[str]:
        """Takes out what is due by this clock, also what is put there meanwhile."""
        heap = self._heaps.get(lane, [])
        while heap and heap[0][0] <= clock:
            timer, call_id = heapq.heappop(heap)
            if self._at.get((lane, call_id)) == timer:  # else replaced by an earlier one
                del self._at[lane, call_id]
                yield call_id

    def earliest(self) -> dict[str, int]:
        """The first of each lane that has one; it may be a replaced one."""
        return {lane: heap[0][0] for lane, heap in self._heaps.items() if heap}
