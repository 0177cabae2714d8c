"""Send what was rejected into calls.segments again, once its cause is gone.

How far `retry --all` has got is committed in the consumer group GROUP-retry, after delivery, so that nothing is sent twice by
accident: the offset says how far all records of a partition are done, its metadata how far those of one reason are (the
embedded broker forgets metadata).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from streams import topics
from streams.errors import TopicsError
from streams.records import Record
from streams.rejected import Rejection, Wanted, parse
from streams.replay import Outbox, producer
from streams.settings import Settings

CHUNK = 100  # records that are delivered, then noted as done
AGAIN = "retry again: what `--all` has noted as done is not sent again"


@dataclass(slots=True)
class Retried:
    """What became of the records. `refused` are places on calls.rejected whose originals are not there; `left_out` counts
    what was not asked for, `before` what an earlier run had done."""

    retried: int = 0
    refused: list[str] = field(default_factory=list)
    left_out: int = 0
    before: int = 0


@dataclass(frozen=True, slots=True)
class How:
    """`again` goes over what is done as well; a `dry_run` sends and notes nothing."""

    wanted: Wanted = field(default_factory=Wanted)
    again: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition of calls.rejected is done: all records before `offset`, those of some reasons before theirs."""

    offset: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    def covers(self, rejection: Rejection) -> bool:
        return rejection.offset < max(self.offset, self.reasons.get(rejection.reason, 0))

    def moved(self, to: int, reason: str | None) -> "Mark":
        """Further on, never back; `reason` None stands for all of them."""
        offset = self.offset if reason else max(to, self.offset)
        named = {reason: max(to, self.reasons.get(reason, 0))} if reason else {}
        return Mark(offset, {name: behind for name, behind in {**self.reasons, **named}.items() if behind > offset})


class Marks:
    """The marks of all partitions, as the group has them committed."""

    def __init__(self, reader: Any, topic: str) -> None:
        self.reader = reader
        self.places = {p: TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or ())}
        self.by_partition = {p: self._committed(place) for p, place in self.places.items()}

    def _committed(self, place: TopicPartition) -> Mark:
        found = self.reader.committed(place, metadata=True)
        if found is None or found.offset < 0:
            return Mark()
        return Mark(found.offset, msgspec.json.decode(found.metadata or "{}", type=dict[str, int]))

    def commit(self, gone_over: Iterable[Record], reason: str | None) -> None:
        for record in gone_over:
            self.by_partition[record.partition] = self.by_partition[record.partition].moved(record.offset + 1, reason)
        committed = {p: (mark.offset, msgspec.json.encode(mark.reasons).decode()) for p, mark in self.by_partition.items()}
        self.reader.commit({self.places[p]: OffsetAndMetadata(*done, -1) for p, done in committed.items()})


OnSent = Callable[[Rejection], None]
"""Called for each record that is handed to the client; in a dry run for each that would be."""


class Run:
    """One way through some records."""

    def __init__(self, settings: Settings, how: How, outbox: Outbox | None, on_sent: OnSent) -> None:
        self.segments, self.how, self.outbox, self.on_sent = settings.topic("segments"), how, outbox, on_sent
        self.retried = Retried()

    def take(self, records: Iterable[Record], marks: Mapping[int, Mark]) -> None:
        """Returns when all that was sent is delivered."""
        for record in records:
            rejection = parse(record)
            if rejection is None or not self.how.wanted.takes(rejection):
                self.retried.left_out += 1
            elif not self.how.again and marks.get(rejection.partition, Mark()).covers(rejection):
                self.retried.before += 1
            elif not rejection.kept:
                self.retried.refused.append(rejection.place)
            else:
                self._send(rejection)
        if self.outbox is not None:
            self.outbox.settle()

    def _send(self, rejection: Rejection) -> None:
        """As if it came now: a call that was opened in the past would be over before its second record."""
        if self.outbox is not None:
            self.outbox.send(self.segments, replace(rejection.original, timestamp=int(time.time() * 1000)))
        self.retried.retried += 1
        self.on_sent(rejection)


def retry_all(settings: Settings, how: How, on_sent: OnSent) -> Retried:
    """Retries what is wanted of all that lies on calls.rejected now and is not done."""
    name = settings.topic("rejected")
    with _outbox(settings, how) as outbox, closing(topics.consumer(settings, f"{settings.group}-retry")) as group:
        run, marks = Run(settings, how, outbox, on_sent), Marks(group, name)
        begin = {p: 0 if how.again else mark.offset for p, mark in marks.by_partition.items()}
        with closing(topics.tail(settings, name, follow=False, begin=begin)) as records:
            while chunk := list(islice(records, CHUNK)):
                run.take(chunk, marks.by_partition)
                if not how.dry_run:
                    marks.commit(chunk, how.wanted.reason)
    return run.retried


def retry_places(settings: Settings, places: Sequence[tuple[int, int]], how: How, on_sent: OnSent) -> Retried:
    """Retries these records, done before or not, and notes nothing. Raises TopicsError where one is not there, before
    anything is sent."""
    records = [record_at(settings, place) for place in places]
    with _outbox(settings, how) as outbox:
        run = Run(settings, how, outbox, on_sent)
        run.take(records, {})
    return run.retried


def record_at(settings: Settings, place: tuple[int, int]) -> Record:
    """The record at a partition and offset of calls.rejected. Raises TopicsError where callpulse has put none."""
    name, (partition, offset) = settings.topic("rejected"), place
    with closing(topics.tail(settings, name, follow=False, begin={partition: offset})) as records:
        record = next(records, None)
    if record is None or record.offset != offset or parse(record) is None:
        raise TopicsError(f"{name} has no rejected record at {partition}:{offset}; `callpulse rejected list` prints the places")
    return record


def _outbox(settings: Settings, how: How) -> AbstractContextManager[Outbox | None]:
    return nullcontext() if how.dry_run else _sending(settings)


@contextmanager
def _sending(settings: Settings) -> Iterator[Outbox]:
    name = settings.topic("segments")
    with topics.admin(settings) as client:
        there = name in client.list_topics()
    if not there:
        raise topics.missing(settings, name, "--prefix")
    with producer(settings) as made:
        yield Outbox(made, AGAIN)
