"""The trace that a record belongs to (W3C Trace Context, in Kafka's headers), carried to what comes of the record. Pure.

`UNTRACED` carries it through as it came, so that a trace which others make is not cut here; `tracing.Spans` adds spans of our
own. A header that is not well-formed is as good as none.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Literal, Protocol

from streams.records import Alert, Record, Rejected, Scored
from streams.wire import Header

PARENT, STATE = "traceparent", "tracestate"
MOST_STATE = 512  # bytes of a tracestate: what W3C asks everybody to carry, and no more
MOST_MEMBERS = 32

# A version to come may have more behind a dash; the version ff, and ids of nothing but zeros, are none.
_IDS = rb"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_PARENT = re.compile(rb"00-" + _IDS + rb"|(?!00|ff)[0-9a-f]{2}-" + _IDS + rb"(?:-[!-~]{0,200})?")
_MEMBER = re.compile(rb"[ \t]*(?:[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,256})?[ \t]*")

Role = Literal["score", "judge"]
Headers = tuple[Header, ...]


def carried(headers: Sequence[Header]) -> Headers:
    """The trace among a record's headers, as it came: traceparent, and tracestate where there is one; () without a trace.
    Where a header is repeated, the last counts. Never raises."""
    if not headers:
        return ()
    found = {name: value for name, value in headers if name in (PARENT, STATE)}
    parent, state = found.get(PARENT), found.get(STATE)
    if parent is None or _PARENT.fullmatch(parent) is None:
        return ()
    return ((PARENT, parent), (STATE, state)) if state and _well_formed(state) else ((PARENT, parent),)


def _well_formed(state: bytes) -> bool:
    members = state.split(b",") if len(state) <= MOST_STATE else ()
    return 0 < len(members) <= MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))


def trace_id(headers: Sequence[Header]) -> str | None:
    """For a log line: the trace among these headers, if any."""
    parent = carried(headers)[:1]
    return parent[0][1][3:35].decode() if parent and parent[0][1] else None


class Batch(Protocol):
    """What is traced of one batch. Leaving it says that what came of the batch is delivered or, with an error, is not."""

    def __enter__(self) -> "Batch": ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def scored(self, record: Record, scored: Scored, partition: int) -> Headers:
        """The scorer has made this of the record, for this partition: what is put among its headers."""

    def rejected(self, record: Record, rejected: Rejected) -> None:
        """The record goes to calls.rejected."""

    def judged(self, record: Record, scored: Scored, alerts: Iterable[Alert]) -> None:
        """The judge is through with the record; these came of it, alerts of other calls among them, whose time had come."""

    def raised(self, alert: Alert) -> Headers:
        """What is put among the headers of an alert that `judged` has named; () for one that came of no record."""


class Tracer(Protocol):
    """Begins the batches of both agents. `began`: when work on it began, by the clock, in seconds since 1970."""

    def batch(self, role: Role, clock: Callable[[], float], began: float) -> Batch: ...


class Carrying:
    """A batch without spans: what a record brings goes on to what comes of it."""

    def __init__(self) -> None:
        self._raised: dict[int, Headers] = {}

    def __enter__(self) -> "Carrying":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return

    def scored(self, record: Record, scored: Scored, partition: int) -> Headers:  # noqa: ARG002
        return carried(record.headers)

    def rejected(self, record: Record, rejected: Rejected) -> None:  # noqa: ARG002
        return

    def judged(self, record: Record, scored: Scored, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            if alert.call_id == scored.call_id and (headers := carried(record.headers)):
                self._raised[id(alert)] = headers

    def raised(self, alert: Alert) -> Headers:
        return self._raised.get(id(alert), ())


class Untraced:
    """Makes no spans."""

    def batch(self, role: Role, clock: Callable[[], float], began: float) -> Batch:  # noqa: ARG002
        return Carrying()


UNTRACED = Untraced()
