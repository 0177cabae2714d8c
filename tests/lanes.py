"""A lane over real asyncio, with fakes of what it uses of Faust: an app that is its own consumer, and work that can be held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from aiokafka import TopicPartition

from streams.delivery import Event, Fetch, Lane
from streams.wire import Header

PATIENCE = 5.0  # seconds before a condition counts as never met
TOPIC = "calls.segments"
Offsets = dict[TopicPartition, int]
T = TypeVar("T")


def place(partition: int = 0) -> TopicPartition:
    return TopicPartition(TOPIC, partition)


def came(
    offset: int, generation: int = 1, *, partition: int = 0, timestamp: int = 0, key: bytes | None = None,
    value: bytes | None = None, headers: Iterable[Header] = (), topic: str = TOPIC,
) -> Event:  # fmt: skip
    """A record as a lane takes it in; timestamp in ms."""
    return Event(topic, partition, offset, timestamp, key, value, tuple(headers), generation)


@dataclass
class FakeFetch:
    records: Sequence[Event]
    generation_id: int


@dataclass
class FakeApp:
    """`consumer` is the app itself. `commits` are those that the group took, all of them while it `takes` any; each waits
    while `open` is not set, and raises while it is `broken`."""

    consumer_generation_id: int = 1
    takes: bool = True
    broken: BaseException | None = None
    asked: list[Offsets] = field(default_factory=list)
    commits: list[Offsets] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def consumer(self) -> "FakeApp":
        return self

    async def _commit(self, offsets: Offsets) -> bool:
        assert not self.under_way
        self.asked.append(dict(offsets))
        self.under_way += 1
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        if self.broken is not None:
            raise self.broken
        if self.takes:
            self.commits.append(dict(offsets))
        return self.takes


@dataclass
class FakeWork:
    """Notes the offsets of its batches when they begin and when they are finished; each waits for its turn while `gated`.
    Raises at offset `broken`; partitions in `lost` are another worker's, and not done."""

    most: int = 100
    broken: int = -1
    gated: bool = False
    ticking: bool = False
    broken_tick: bool = False
    lost: set[int] = field(default_factory=set)
    begun: list[list[int]] = field(default_factory=list)
    finished: list[list[int]] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    told: int = 0
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @property
    def tick(self) -> Callable[[], Awaitable[None]] | None:
        return self._tick if self.ticking else None

    async def _tick(self) -> None:
        if self.broken_tick:
            raise ValueError("the clock is broken")
        self.ticks.append(asyncio.get_running_loop().time())

    def came(self) -> None:
        self.told += 1

    def size(self, waiting: Iterable[Event]) -> int:
        return min(self.most, len(list(waiting)))

    async def work(self, batch: Sequence[Event]) -> Sequence[Event]:
        offsets = [event.offset for event in batch]
        self.begun.append(offsets)
        if self.gated:
            await self.gate.acquire()
        await asyncio.sleep(0)
        if self.broken in offsets:
            raise ValueError("the model is broken")
        self.finished.append(offsets)
        return [event for event in batch if event.partition not in self.lost]


class Line:
    """A lane with its fakes, fed from a queue as an agent would feed it; it has its partitions from the beginning on."""

    def __init__(self, work: FakeWork | None = None, **given: Any) -> None:
        self.app = FakeApp()
        self.work = work or FakeWork(**given)
        self.failures: list[tuple[BaseException, list[int]]] = []
        self.lane = Lane(self.app, self.work, self._failed)
        self.lane.running.set()
        self.queue: asyncio.Queue[Fetch] = asyncio.Queue()
        self.taken = 0
        self.feeding = asyncio.create_task(self.lane.feed(self._fetches()))
        self.lane.start()

    def _failed(self, error: BaseException, batch: Sequence[Event]) -> None:
        self.failures.append((error, [event.offset for event in batch]))

    async def _fetches(self) -> AsyncIterator[Fetch]:
        while True:
            fetch = await self.queue.get()
            self.taken += len(fetch.records)
            yield fetch

    def put(self, *offsets: int, partition: int = 0, generation: int | None = None, size: int = 0, at_once: int = 1) -> None:
        """Events, so many a fetch, of the present generation, unless another is given, with values of so many bytes. Where
        nobody said where a partition begins, it is with the first of them."""
        generation = self.app.consumer_generation_id if generation is None else generation
        if offsets and self.lane.running.is_set():
            self.lane.expected.setdefault((place(partition), generation), offsets[0])
        records = [came(offset, generation, partition=partition, value=b"x" * size) for offset in offsets]
        for start in range(0, len(records), at_once):
            self.queue.put_nowait(FakeFetch(records[start : start + at_once], generation))

    def reassigned(self, **begin: int) -> None:
        """The next generation: partitions p0, p1, ... are this worker's, from these offsets on."""
        self.app.consumer_generation_id += 1
        offsets = {place(int(name[1:])): offset for name, offset in begin.items()}
        self.lane.resume(offsets, offsets)

    async def is_done(self, offset: int, partition: int = 0) -> None:
        await until(lambda: self.lane.done.get(place(partition)) == offset)

    @property
    def worked(self) -> list[int]:
        return [*chain(*self.work.begun)]

    async def stop(self) -> None:
        self.lane.closed = True  # else the end would be one more failure
        for task in (self.feeding, *self.lane.tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def run(scene: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(asyncio.wait_for(scene(), 2 * PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "never met"
        await asyncio.sleep(0.001)


async def turns(count: int = 50) -> None:
    """Lets everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)
