"""Publish, await delivery, acknowledge: the order that lets a worker die at any point and lose nothing.

For each batch of a lane, one batch at a time:

1. take what waits, oldest first;
2. do the work: its effects are published and their delivery is awaited;
3. note the offsets behind the batch's events as done;
4. commit what is done, about once a second, and at once before partitions are handed over and before the worker stops.

As a batch begins only when the one before is delivered, what is done is never past an unfinished event. (The scorer looks
ahead: it may have scored what still waits, but has sent nothing of it.) Where a crash may fall, and what follows, for the
scorer (S) and for the judge (J):

- before 2: nothing was published; the batch is redelivered.
- within 2, S: some of the batch is on calls.sentiment, of each source partition its first records, as a batch's records are
  sent in order and nothing behind a record that failed. The batch is redelivered and published again, with the same places
  in calls.segments; the judge has the last place that it judged of each source partition, and drops the repeats.
- within 2, J: the transaction is aborted by the next owner, whose start fences this one: readers of committed records see
  nothing of it. Without transactions: alerts may be there without the states; they are judged again, from the same states, to
  the same alerts under the same ids.
- between 2 and 3, or 3 and 4: the effects are there and the offsets are not committed; the batch is redelivered. S: as
  above. J: the stored positions say that it has been judged; nothing is published.
- a worker that is frozen, loses its partitions and wakes up: S publishes repeats, which are dropped. J is refused by its fence,
  gives the partition up and commits nothing of it.

A delivery that fails for good raises: nothing after it is sent or acknowledged, and the process stops.
"""

import asyncio
import collections
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import TopicPartition

from models.histogram import Histogram
from streams.errors import PassedOverError
from streams.metrics import SECONDS
from streams.records import Record

log = logging.getLogger("callpulse.delivery")

TICK_S = 1.0
COMMIT_S = 1.0
SETTLE_S = 15.0  # for what is under way when partitions are taken away; the group waits for 30 s
CAPACITY = 4096
CAPACITY_BYTES = 64 << 20  # of what waits: messages that are too large to be valid are rejected, but they come first


class Fetch(Protocol):
    """What came of a partition at once, as aiokafka's records in their order; `generation_id` is the assignment's."""

    @property
    def records(self) -> Sequence[Any]: ...

    @property
    def generation_id(self) -> int | None: ...


class Event(Record, frozen=True):
    """A record that has come under this assignment of its partition."""

    generation: int | None = None

    @property
    def source(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class Work(Protocol):
    """What an agent does. `size` of the waiting events make the next batch (at least one); `work` returns those events whose
    effects are delivered, in their order (all of them, but for partitions that were lost meanwhile); `tick`, where there is
    one, is called about once a second between batches; `came` after more events have come."""

    @property
    def tick(self) -> Callable[[], Awaitable[None]] | None: ...

    def came(self) -> None: ...

    def size(self, waiting: Iterable[Event]) -> int: ...

    async def work(self, batch: Sequence[Event]) -> Sequence[Event]: ...


class Lane:
    """Events in, batches of whatever waits out: the micro-batcher between a Faust agent and its work.

    When partitions are taken away, what waits is given up (it will be redelivered), what is under way is finished and
    committed; if that takes longer than SETTLE_S, it is abandoned without a commit. `failed` is called once, with the batch
    under way, when the work raises. `done` has the offset behind the last event done, by partition, of those assigned now;
    `jumps` the places where offsets are missing: (partition, expected, found). `taken` counts the events of all batches,
    `batches` how long (seconds) each took that was done.

    What is taken in follows without a gap from where the partition begins: else what is done could be committed past what never
    came (under load, Faust has been seen to drop what it fetched after a rebalance). `passed_over` says, by asking the broker,
    whether records lie between; if so, the worker fails, and they come again.
    """

    def __init__(self, app: Any, work: Work, failed: Callable[[BaseException, Sequence[Event]], None]) -> None:
        self.app, self.work, self.failed = app, work, failed
        self.waiting: collections.deque[Event] = collections.deque()
        self.waiting_bytes = 0
        self.more, self.room, self.idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.room.set()
        self.idle.set()
        self.running = asyncio.Event()
        self.closed = False
        self.tasks: list[asyncio.Task[None]] = []
        self.done: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.expected: dict[tuple[TopicPartition, int | None], int] = {}
        self.given_up: set[TopicPartition] = set()
        self.passed_over: Callable[[TopicPartition, int, int], Awaitable[bool]] | None = None
        self.jumps: collections.deque[tuple[TopicPartition, int, int]] = collections.deque(maxlen=CAPACITY)
        self.assignment = 0  # counts them: what was begun under one is not acknowledged under the next
        self.settling = False  # from when partitions are taken away until the next assignment counts
        self.committing = asyncio.Lock()
        self.taken, self.batches = 0, Histogram(SECONDS)

    @property
    def paused(self) -> bool:
        """Whether no more is taken in, since the lane is full."""
        return not self.room.is_set()

    async def feed(self, fetches: AsyncIterator[Fetch]) -> None:
        """Takes in what comes; stops taking while the lane is full."""
        async for fetch in fetches:
            for event in _events(fetch):
                await self.running.wait()  # until it is known where its partition begins
                if await self._is_next(event):
                    self.waiting.append(event)
                    self.waiting_bytes += _size(event)
                    self.more.set()
                if len(self.waiting) >= CAPACITY or self.waiting_bytes >= CAPACITY_BYTES:
                    self.room.clear()
                    self._tell()
                    await self.room.wait()
            self._tell()

    def _tell(self) -> None:
        if self.closed:
            return
        try:
            self.work.came()
        except Exception as error:
            self.closed = True
            self.failed(error, [])

    async def _is_next(self, event: Event) -> bool:
        """Whether the event is of this generation and not yet taken in. What is missing before it must be the ends of
        transactions, or deleted by retention."""
        place = event.source
        stretch = place, event.generation  # between two of them another worker may have gone on
        if self.closed or not self._mine(event):
            return False
        if (expected := self.expected.get(stretch)) is None:
            return self._missed(f"nobody said where {place} begins", event)
        if event.offset < expected:
            return False
        missing = event.offset - expected
        asked = missing and self.passed_over is not None
        if asked and await self.passed_over(place, expected, event.offset) and self._mine(event):  # type: ignore[misc]
            return self._missed(f"offsets {expected} to {event.offset - 1} of {place} did not come", event)
        if self.closed or not self._mine(event):
            return False
        if missing:
            self.jumps.append((place, expected, event.offset))
        self.expected[stretch] = event.offset + 1
        return True

    def _missed(self, what: str, event: Event) -> bool:
        self.closed = True
        self.failed(PassedOverError(what), [event])
        return False

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self._drain()), asyncio.create_task(self._keep_committing())]

    async def settle(self) -> None:
        """Gives up what waits, lets the batch under way finish, commits it. Nothing is begun until `resume`."""
        self.settling = True
        self.running.clear()
        self.waiting.clear()
        self.waiting_bytes = 0
        self.more.clear()
        self.room.set()
        try:
            await asyncio.wait_for(self._settled(), SETTLE_S)
        except (asyncio.TimeoutError, TimeoutError):
            log.warning("gave up waiting for a batch after %.0f s: it is redelivered to whoever gets its partitions", SETTLE_S)
        self.assignment += 1
        self.settling = False
        self.done, self.committed, self.expected = {}, {}, {}
        self.given_up.clear()

    async def _settled(self) -> None:
        await self.idle.wait()
        await self.commit()

    def resume(self, begin: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> None:
        """Goes on, with the partitions of a new generation, from these offsets on. Where less is committed, as what lay between
        was deleted, that is made good with the next commit: it was lost once."""
        self.done, self.committed = dict(begin), dict(committed)
        generation = self.app.consumer_generation_id
        self.expected = {(place, generation): offset for place, offset in begin.items()} | self.expected
        self.running.set()

    async def close(self) -> None:
        """Settles and takes nothing more."""
        self.closed = True
        await self.settle()
        for task in self.tasks:
            task.cancel()

    async def commit(self, again: bool = False) -> bool:
        """Commits what is done and not yet committed. False when the group has moved on without this worker: then it is
        redelivered. With `again` everything is committed anew: true proves that this worker is a member."""
        async with self.committing:
            done = {place: offset for place, offset in self.done.items() if again or self.committed.get(place) != offset}
            if not done:
                return not again
            if accepted := await self.app.consumer._commit(done):
                self.committed |= done
            else:
                log.warning("not committed, as the group has moved on: what was done is redelivered and known again")
            return bool(accepted)

    async def _keep_committing(self) -> None:
        try:
            while True:
                await asyncio.sleep(COMMIT_S)
                if self.running.is_set():
                    await self.commit()
        except Exception as error:
            self.failed(error, [])

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[Event] = []
        ticked = loop.time()
        try:
            while True:
                await self._more(ticked + TICK_S - loop.time())
                await self.running.wait()
                self.idle.clear()
                batch, assignment = self._batch(), self.assignment
                if batch:
                    began, self.taken = loop.time(), self.taken + len(batch)
                    done = await self.work.work(batch)
                    self.batches.observe(loop.time() - began)
                    if assignment == self.assignment:
                        self._note(batch, done)
                    batch = []
                if self.work.tick is not None and loop.time() - ticked >= TICK_S:
                    await self.work.tick()
                    ticked = loop.time()
                self.idle.set()
        except asyncio.CancelledError as error:
            if not self.closed:
                self.failed(error, batch)
            raise
        except Exception as error:
            self.failed(error, batch)
        finally:
            self.idle.set()

    async def _more(self, seconds: float) -> None:
        """Waits for an event; where there are ticks, at most until the next one."""
        if self.work.tick is None:
            await self.more.wait()
        elif not self.more.is_set():
            try:
                await asyncio.wait_for(self.more.wait(), max(0.0, seconds))
            except (asyncio.TimeoutError, TimeoutError):
                return

    def _batch(self) -> list[Event]:
        taken = [self.waiting.popleft() for _ in range(self.work.size(self.waiting))] if self.waiting else []
        self.waiting_bytes -= sum(map(_size, taken))
        if not self.waiting:
            self.more.clear()
        self.room.set()
        return [event for event in taken if self._mine(event) and event.source not in self.given_up]

    def _mine(self, event: Event) -> bool:
        """Whether the event's partition was assigned in this generation; otherwise it is redelivered to its owner."""
        return bool(event.generation == self.app.consumer_generation_id)

    def _note(self, batch: Sequence[Event], done: Sequence[Event]) -> None:
        """Of a partition that was not done, nothing behind may be done either, until it is assigned anew."""
        for event in done:
            self.done[event.source] = event.offset + 1
        if len(done) < len(batch):
            offsets = {(event.source, event.offset) for event in done}
            self.given_up |= {event.source for event in batch if (event.source, event.offset) not in offsets}


def _events(fetch: Fetch) -> Iterator[Event]:
    for r in fetch.records:
        headers = tuple(r.headers or ())
        yield Event(r.topic, r.partition, r.offset, r.timestamp or 0, r.key, r.value, headers, fetch.generation_id)


def _size(event: Event) -> int:
    return len(event.value or b"")
