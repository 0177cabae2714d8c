"""How many calls are live, and how many of their alerts are open, by queue. Pure.

Kept as states change, so that it costs the same however many calls there are, and asking costs nothing.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from streams.records import Scalar

QUEUE = "queue"
"""The attribute of a call that names its queue."""
MOST = 50
NO_QUEUE, OTHER = "none", "other"


class Counted(Protocol):
    """What is looked at of a call's state."""

    @property
    def call_id(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, Scalar]: ...


class Queues:
    """The names under which queues are counted: at most `most` of their own, the first that come; all others are OTHER,
    a call without a queue is under NO_QUEUE. So whoever sends calls cannot make the number of time series grow."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.names: set[str] = set()

    def of(self, attributes: Mapping[str, Scalar]) -> str:
        """The name for a call with these attributes."""
        queue = attributes.get(QUEUE)
        name = NO_QUEUE if queue is None or queue == "" else str(queue)
        if name in self.names or name == NO_QUEUE:
            return name
        if len(self.names) >= self.most:
            return OTHER
        self.names.add(name)
        return name


class Census:
    """Live calls (those that are not closed) and their open alerts, by queue; a queue that had some stays, with 0."""

    def __init__(self, queues: Queues) -> None:
        self.queues = queues
        self.live: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self._known: dict[str, tuple[str, int]] = {}

    def note(self, call: Counted, open_alerts: int) -> None:
        """The call is like this now."""
        before = self._known.get(call.call_id)
        now = None if call.status == "closed" else (self.queues.of(call.attributes), open_alerts)
        if now == before:
            return
        if before is not None:
            self._add(*before, sign=-1)
            del self._known[call.call_id]
        if now is not None:
            self._add(*now, sign=1)
            self._known[call.call_id] = now

    def _add(self, queue: str, alerts: int, sign: int) -> None:
        self.live[queue] += sign
        self.open[queue] += sign * alerts
